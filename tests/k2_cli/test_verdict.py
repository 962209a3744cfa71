"""k2_cli.verdict: each way in which a table can differ from a capture is told."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from k2_cli.captured import SCHEMA
from k2_cli.verdict import ROW_COLUMNS, Verdict, judge
from k2_core.records import TRADES

SINCE_US = 1_723_161_000_000_000
TIME_US = SINCE_US + 255_342_000
COUNT = 5


def captured(count: int = COUNT) -> pa.Table:
    rows = [
        {
            "symbol": symbol,
            "trade_id": 1000 + number,
            "price": Decimal("61837.63000000"),
            "quantity": Decimal("1.00000001"),
            "side": "sell" if number % 2 else "buy",
            "exchange_us": TIME_US + number * 1000,
        }
        for symbol in ("BTCUSDT", "ETHUSDT")
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def lake(trades: pa.Table) -> pa.Table:
    time = pc.cast(trades.column("exchange_us"), pa.timestamp("us", tz="UTC"))
    ids = pc.cast(trades.column("trade_id"), pa.string())
    columns = {
        "message_id": pc.binary_join_element_wise("binance:spot", trades.column("symbol"), ids, ":"),
        "exchange": pa.array(["binance"] * trades.num_rows),
        "market": pa.array(["spot"] * trades.num_rows),
        "trade_id": ids,
        "sequence": trades.column("trade_id"),
        "exchange_timestamp": time,
        "receive_timestamp": time,
        "event_time": time,
    }
    columns |= {name: trades.column(name) for name in ("symbol", "side", "price", "quantity")}
    schema = pa.schema([TRADES.table_schema.field(name) for name in ROW_COLUMNS])
    return pa.table({name: columns[name] for name in ROW_COLUMNS}).cast(schema)


def changed(name: str, value: Any) -> pa.Table:
    """The table with one column of its first row changed."""
    rows = lake(captured()).to_pylist()
    rows[0][name] = value
    return pa.Table.from_pylist(rows, lake(captured()).schema)


def test_the_same_set_is_exact() -> None:
    verdict = judge(captured(), lake(captured()), SINCE_US)
    assert verdict == Verdict(10, 10, 0, 0, 0, None)
    assert verdict.exact
    assert verdict.complaints() == []


def test_rows_that_are_not_there_are_missing() -> None:
    verdict = judge(captured(), lake(captured()).slice(1), SINCE_US)
    assert (verdict.missing, verdict.example) == (1, "BTCUSDT 1000")
    assert not verdict.exact
    assert verdict.complaints() == [
        "1 captured trades are not in the table as they were captured, such as BTCUSDT 1000"
    ]


def test_an_empty_table_misses_everything() -> None:
    assert judge(captured(), lake(captured()).slice(0, 0), SINCE_US).missing == 10


def test_copies_are_doubled() -> None:
    rows = lake(captured())
    verdict = judge(captured(), pa.concat_tables([rows, rows.slice(0, 3), rows.slice(0, 1)]), SINCE_US)
    assert (verdict.committed, verdict.duplicates, verdict.missing) == (10, 4, 0)
    assert not verdict.exact


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("price", Decimal("61837.63000001"), id="price"),
        pytest.param("quantity", Decimal("1.00000000"), id="quantity"),
        pytest.param("side", "sell", id="side"),
        pytest.param("side", None, id="no side"),
        pytest.param("trade_id", "1001", id="trade id"),
        pytest.param("message_id", "binance:spot:BTCUSDT:1001", id="message id"),
        pytest.param("exchange_timestamp", None, id="no exchange time"),
    ],
)
def test_other_values_are_no_match(name: str, value: object) -> None:
    verdict = judge(captured(), changed(name, value), SINCE_US)
    assert (verdict.committed, verdict.altered, verdict.missing) == (9, 1, 1)
    assert verdict.example == "BTCUSDT 1000"
    assert not verdict.exact


@pytest.mark.parametrize("name", ["exchange_timestamp", "event_time"])
def test_other_times_are_no_match(name: str) -> None:
    time = lake(captured()).column(name)[0].as_py()
    assert judge(captured(), changed(name, time + timedelta(microseconds=1)), SINCE_US).altered == 1


def test_rows_of_this_run_that_no_capture_holds_are_unexpected() -> None:
    verdict = judge(captured(4), lake(captured(5)), SINCE_US)
    assert (verdict.missing, verdict.unexpected) == (0, 2)
    assert not verdict.exact


def test_older_rows_and_other_venues_are_none_of_its_business() -> None:
    later = TIME_US + 10**9
    assert judge(captured(4), lake(captured(5)), later).exact
    other = lake(captured(5)).to_pylist()
    for row in other:
        row["exchange"] = "kraken"
    both = pa.concat_tables([lake(captured()), pa.Table.from_pylist(other, lake(captured()).schema)])
    assert judge(captured(), both, SINCE_US).exact


def test_a_trade_that_was_captured_twice_is_wanted_once() -> None:
    twice = pa.concat_tables([captured(), captured()])
    assert judge(twice, lake(captured()), SINCE_US) == Verdict(10, 10, 0, 0, 0, None)
