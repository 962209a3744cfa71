"""Kubernetes quantities ("500m", "1Gi") as exact numbers, so that requests can be compared with limits.

Called by the spec's validators and by the operator; pure. The grammar is that of apimachinery's `resource.Quantity`
without its rarer forms (signs and leading dots), which no resource of a pod needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

QUANTITY_PATTERN: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})?([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
"""In the common part of Python's, Rust's and Go's regular expressions, as the API server checks the same text."""
QUANTITY_MAX_LENGTH: Final = 32

_QUANTITY: Final = re.compile(QUANTITY_PATTERN.strip("^$"))
_SUFFIXES: Final[Mapping[str, Decimal]] = {
    **{
        suffix: Decimal(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


def quantity_value(quantity: str) -> Decimal:
    """Return what a quantity amounts to, in cores or bytes.

    Args:
        quantity: Text that matches `QUANTITY_PATTERN`.

    Raises:
        ValueError: It does not.
    """
    if not _QUANTITY.fullmatch(quantity):
        raise ValueError(f"found {quantity!r}, expected a Kubernetes quantity such as 500m or 1Gi")
    if quantity[-1].isdigit():  # plain, or with an exponent
        return Decimal(quantity)
    number = quantity.rstrip("numkKMGTPEi")
    return Decimal(number) * _SUFFIXES[quantity.removeprefix(number)]
