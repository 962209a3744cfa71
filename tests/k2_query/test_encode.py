from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa

from k2_core.records import TRADES
from k2_query.encode import iso, iso_us, to_json, to_rows
from support.query import BASE, Logged, make_record, table_rows


def test_rows_are_exact_and_complete() -> None:
    record = make_record("BTCUSDT", 1, BASE, price=Decimal("0.00000001"), exchange_timestamp=None)
    [row] = to_rows(table_rows([Logged(record, "topic", 3, 7)]))  # type: ignore[arg-type]
    assert list(row) == TRADES.table_schema.names
    assert row["price"] == "0.00000001"
    assert row["quantity"] == f"{record['quantity']:f}"
    assert row["exchange_timestamp"] is None
    assert row["event_time"] == "2024-08-08T23:50:00.001500Z"
    assert row["vendor_data"] == record["vendor_data"]
    assert (row["topic_id"], row["kafka_partition"], row["kafka_offset"]) == ("topic", 3, 7)
    assert json.loads(to_json([row])) == [row]


def test_decimals_need_no_exponent_and_may_be_missing() -> None:
    column = pa.chunked_array([pa.array([Decimal("1E-8"), None, Decimal("-12.5")], pa.decimal128(18, 8))])
    assert [row["x"] for row in to_rows(pa.table({"x": column}))] == ["0.00000001", None, "-12.50000000"]


def test_times_are_utc_with_microseconds() -> None:
    assert iso(datetime(2024, 8, 8, 10, tzinfo=timezone(timedelta(hours=10)))) == "2024-08-08T00:00:00.000000Z"
    assert iso_us(1_723_161_255_123_457) == "2024-08-08T23:54:15.123457Z"
    assert iso(datetime(2024, 8, 8, tzinfo=UTC)) == iso_us(1_723_075_200_000_000)
