from __future__ import annotations

from datetime import timedelta

import pytest

from k2_query.ordering import Order, top
from support.query import BASE, Logged, Record, event_time, make_record, table_rows

RECORDS = [
    make_record("BTCUSDT", number, BASE + timedelta(seconds=number % 3), sequence=None if number % 4 == 0 else number)
    for number in range(40)
]


def key(record: Record) -> tuple[object, ...]:
    return event_time(record), record["sequence"] is None, record["sequence"] or 0, record["message_id"]


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("limit", [1, 17, 40, 99])
def test_top_is_the_head_of_the_sorted_rows(order: Order, limit: int) -> None:
    rows = table_rows([Logged(record, "t", 0, at) for at, record in enumerate(RECORDS)])  # type: ignore[arg-type]
    expected = sorted(RECORDS, key=key, reverse=order is Order.DESC)[:limit]
    assert top(rows, order, limit).column("message_id").to_pylist() == [one["message_id"] for one in expected]
