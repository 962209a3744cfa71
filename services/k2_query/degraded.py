"""What the pipeline's level of degradation means for an answer, in words for its reader.

Called by `k2_query.service`. An answer is no less complete for it: what the table does not have is read from the log.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from k2_core.state import CommitState, owed_records
from k2_core.types import Level

_COMMITTED: Final[Mapping[Level, str]] = {
    Level.GRACEFUL: "symbols of class low are not committed",
    Level.AGGRESSIVE: "only critical symbols are committed",
    Level.CIRCUIT_BREAK: "nothing is committed",
}


def level_warnings(level: Level, state: CommitState | None) -> Iterator[str]:
    """Yield what people are to know of a level at which less is committed than comes.

    Args:
        level: What services were told.
        state: Of the snapshot that was read, None without one.
    """
    if (means := _COMMITTED.get(level)) is None:
        return
    owed = () if state is None else state.open_ledger
    yield (
        f"level {level:d}: {means}; {owed_records(owed)} records in {len(owed)} ranges are owed to the table, "
        "and read from the log"
    )
