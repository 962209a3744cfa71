"""The order of trades: event time, then the venue's sequence, then message_id, which makes it total.

Used by the engines, which sort in SQL, and by the merge, which sorts in Arrow; both must agree.
"""

from __future__ import annotations

import enum
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

SORT_KEYS: Final = ("event_time", "sequence", "message_id")
"""A missing sequence comes after all others, in descending order before them."""


class Order(enum.StrEnum):
    """Oldest or newest first."""

    ASC = "asc"
    DESC = "desc"


def top(rows: pa.Table, order: Order, limit: int) -> pa.Table:
    """Return the first rows in an order."""
    direction, nulls = ("ascending", "at_end") if order is Order.ASC else ("descending", "at_start")
    numbers = pc.sort_indices(rows, sort_keys=[(key, direction, nulls) for key in SORT_KEYS])
    return rows.take(numbers[:limit])
