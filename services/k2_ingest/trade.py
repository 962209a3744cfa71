"""A trade with exact numbers: what a venue's parser gives and the encoder takes.

Owns nothing but the shape. A named tuple, as it is made and unpacked once a message on the hot path.
"""

from __future__ import annotations

from typing import NamedTuple

from k2_core.types import Symbol


class Trade(NamedTuple):
    """One trade, checked: it fits the columns of the record.

    Args:
        symbol: The venue's symbol, upper case.
        trade_id: The venue's id, counted without gaps per symbol.
        sold: The aggressor sold.
        price: Scaled by 10**8, above 0 and below 10**18.
        quantity: Scaled by 10**8, above 0 and below 10**28.
        exchange_us: When the venue says it happened, UTC microseconds.
        vendor: What else the venue said, verbatim: key and number.
    """

    symbol: Symbol
    trade_id: int
    sold: bool
    price: int
    quantity: int
    exchange_us: int
    vendor: tuple[tuple[str, int], ...]
