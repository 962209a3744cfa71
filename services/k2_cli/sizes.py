"""How much disk `k2 up` may use: `--max-disk` read, the default chosen, and whether it is time to stop.

Pure; `k2_cli.up` measures and acts. The point is to stop while there is still room to commit what was read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from k2_core.errors import SetupError, SpecError

_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", re.IGNORECASE)

DEFAULT_BYTES: Final = 20 * 10**9
DEFAULT_SHARE: Final = 0.8
"""Of what is free: a laptop that fills up stops more than K2."""
LEAST_BYTES: Final = 50 * 10**6
"""An empty Kafka and a catalog take some 30 MB."""
RESERVE_BYTES: Final = 200 * 10**6
"""Must stay free on the disk whatever the limit: room to drain (at most 500,000 rows) and to commit."""
MARGIN_SHARE: Final = 0.05
"""Of the limit, left for the drain itself."""


def parse_size(text: str) -> int:
    """Return the bytes that `5GB`, `500 MB`, `1.5GiB` or `1000000` say; decimal units unless there is an `i`.

    Raises:
        SpecError: It says no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise SpecError("--max-disk", repr(text), "a size such as 5GB or 500MB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


@dataclass(frozen=True, slots=True)
class DiskBudget:
    """What a folder may take.

    Args:
        limit_bytes: Most that the state folder may take.
    """

    limit_bytes: int

    @classmethod
    def choose(cls, wanted: str | None, used_bytes: int, free_bytes: int) -> DiskBudget:
        """Return the budget that was asked for, or the default: 20 GB, or 80 % of what there is if that is less.

        Raises:
            SpecError: The size is none, or too small to run in.
            SetupError: There is no room to start.
        """
        limit = parse_size(wanted) if wanted is not None else None
        if limit is not None and limit < LEAST_BYTES:
            raise SpecError("--max-disk", repr(wanted), f"at least {LEAST_BYTES // 10**6}MB")
        budget = cls(limit or min(DEFAULT_BYTES, used_bytes + int(DEFAULT_SHARE * free_bytes)))
        reason = budget.exceeded(used_bytes, free_bytes)
        if reason is not None:
            raise SetupError(f"disk: {reason}; free some, raise --max-disk or use another --dir")
        return budget

    def exceeded(self, used_bytes: int, free_bytes: int) -> str | None:
        """Return why it is time to stop, or None."""
        if used_bytes >= self.limit_bytes * (1 - MARGIN_SHARE):
            return (
                f"found {used_bytes // 10**6} MB in use, expected less than the limit of {self.limit_bytes // 10**6} MB"
            )
        if free_bytes < RESERVE_BYTES:
            return f"found {free_bytes // 10**6} MB free, expected at least {RESERVE_BYTES // 10**6} MB"
        return None
