"""Printed numbers as exact integers: what every venue's parser reads prices and quantities with.

Owns which number may become a record: plain digits, above zero, within its column. Called once a number on the hot
path of a feed, and for what a file's columnar reader does not take at once. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from k2_core.errors import RecordError

DECIMALS: Final = 8
PRICE_LIMIT: Final = 10**18  # DECIMAL(18, 8), as an integer scaled by 10**8
QUANTITY_LIMIT: Final = 10**28  # DECIMAL(28, 8)
_MAX_DIGITS: Final = 64  # no venue's number is longer; keeps a hostile one from costing time


def scaled(field: str, text: str, limit: int) -> int:
    """A printed decimal as an integer scaled by 10**8, equal in value to the text.

    Args:
        field: Name for the reason, `price` or `quantity`.
        text: What the venue printed.
        limit: First scaled value that no longer fits its column.

    Raises:
        RecordError: Not a plain number, not above zero, or more digits than the column holds.
    """
    whole, fraction = text[:-9], text[-8:]
    digits = whole + fraction
    if text[-9:-8] != "." or len(text) > _MAX_DIGITS or not (digits.isdigit() and digits.isascii()):
        digits = _digits(field, text)
    value = int(digits)
    if 0 < value < limit:
        return value
    if value == 0:
        raise RecordError(f"{field}_not_positive", f"found {field} {text!r}, expected more than 0")
    most = limit // 10**DECIMALS
    raise RecordError(f"{field}_precision", f"found {field} {text[:_MAX_DIGITS]!r}, expected less than {most}")


_NUMBER: Final = re.compile(r"(-?)([0-9]*)\.?([0-9]*)", re.ASCII)


def _digits(field: str, text: str) -> str:
    """The digits before the point and exactly eight after it."""
    match = _NUMBER.fullmatch(text[: _MAX_DIGITS + 1])
    if match is None or not match[2] + match[3]:
        shown = text[:_MAX_DIGITS]
        raise RecordError(f"{field}_malformed", f"found {field} {shown!r}, expected digits with a decimal point")
    sign, whole, fraction = match.groups()
    if sign:
        raise RecordError(f"{field}_not_positive", f"found {field} {text[:_MAX_DIGITS]!r}, expected more than 0")
    if len(text) > _MAX_DIGITS or fraction[DECIMALS:].strip("0"):
        shown = text[:_MAX_DIGITS]
        raise RecordError(f"{field}_precision", f"found {field} {shown!r}, expected at most {DECIMALS} decimals")
    return whole + fraction[:DECIMALS].ljust(DECIMALS, "0")
