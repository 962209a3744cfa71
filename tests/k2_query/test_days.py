"""Days from parts; that engines agree with them is in test_engine_contract.py."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import QueryError
from k2_query.days import merged, parts_of
from k2_query.engine import Day
from support.engines import logged, place
from support.query import BASE, Record, make_record, make_records

MIDNIGHT = datetime(2024, 8, 9, tzinfo=UTC)

trades = st.lists(
    st.builds(
        lambda number, seconds, sequence, price: make_record(
            "A", number, MIDNIGHT + timedelta(seconds=seconds), sequence=sequence, price=Decimal(price).scaleb(-8)
        ),
        st.integers(1, 10**9),
        st.integers(-90_000, 90_000),
        st.one_of(st.none(), st.integers(-5, 5)),
        st.integers(1, 10**18 - 1),
    ),
    max_size=12,
    unique_by=lambda record: record["message_id"],
)


def figures(days: list[Day]) -> list[tuple[date, Decimal, Decimal, int]]:
    return [(day.day, day.open, day.close, day.trades) for day in days]


@given(trades, st.integers(0, 12))
def test_parts_come_to_the_whole_however_it_is_cut(records: list[Record], cut: int) -> None:
    whole = merged(parts_of(logged(records)))
    assert merged([*parts_of(logged(records[cut:])), *parts_of(logged(records[:cut]))]) == whole
    expected: dict[date, list[Record]] = {}
    for record in sorted(records, key=place):
        expected.setdefault(record["exchange_timestamp"].date(), []).append(record)
    assert figures(whole) == [
        (day, own[0]["price"], own[-1]["price"], len(own)) for day, own in sorted(expected.items())
    ]


def test_a_part_says_where_its_first_and_last_trade_stand() -> None:
    records = [*make_records("A", 5, 3, BASE), make_record("A", 1, BASE, sequence=None)]
    [part] = parts_of(logged(records))
    assert part.first == (BASE, False, 5, "binance:spot:A:5")
    assert part.last == (BASE + timedelta(microseconds=20_000), False, 7, "binance:spot:A:7")


def test_no_rows_are_no_days() -> None:
    assert parts_of(logged([])) == []
    assert merged([]) == []


def test_sums_stay_exact_to_38_digits_and_end_there() -> None:
    most = make_record("A", 1, BASE, price=Decimal("9999999999.99999999"), quantity=Decimal("999999999999.99999999"))
    [part] = parts_of(logged([most]))
    assert part.day.notional == Decimal("9999999999999999989900.0000000000000001")
    with pytest.raises(QueryError, match=r"^end: found a window too large to answer \(a sum of 39 digits\)"):
        merged([part, part])
    with pytest.raises(QueryError, match=r"a sum of 39 digits"):
        parts_of(logged([most, make_record("A", 2, BASE, price=most["price"], quantity=most["quantity"])]))
