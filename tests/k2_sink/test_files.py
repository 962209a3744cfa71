"""Files as Iceberg and other readers see them: order, partitions, encodings, exact values."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from k2_core.errors import StorageUnavailableError
from k2_core.records import TRADES
from k2_core.tables import ensure_table, open_catalog
from k2_sink.files import ENCODINGS, FileWriter, Group, sort_rows
from support.lake import by_message_id, lake_settings, records_of, table_form
from support.records import DEFAULT_START, Record, make_trades

KEYS = ("symbol", "event_time", "trade_id")


def check_groups(trades: list[Record]) -> list[Group]:
    groups = list(sort_rows(table_form(trades)))
    bucket = BucketTransform[str](16).transform(StringType())
    assert len({(group.day, group.bucket) for group in groups}) == len(groups)
    for group in groups:
        for row in group.rows.to_pylist():
            assert bucket(row["symbol"]) == group.bucket
            assert int(row["event_time"].timestamp() // 86_400) == group.day
        keys = [tuple(row[key] for key in KEYS) for row in group.rows.to_pylist()]
        assert keys == sorted(keys)
    if groups:
        everything = pa.concat_tables([group.rows for group in groups])
        assert by_message_id(records_of(everything)) == by_message_id(trades)
    return groups


def test_no_rows_make_no_groups() -> None:
    assert check_groups([]) == []


def test_rows_of_many_symbols_and_days_are_split_and_sorted() -> None:
    symbols = [f"S{number}USDT" for number in range(40)]
    trades = make_trades(2_000, symbols=symbols, start=DEFAULT_START, step=timedelta(minutes=4), seed=3)
    groups = check_groups(trades)
    assert len({group.day for group in groups}) > 1
    assert len({group.bucket for group in groups}) > 10


def test_rows_out_of_order_within_a_symbol_are_sorted() -> None:
    trades = make_trades(500, seed=4)
    trades.reverse()
    check_groups(trades)


def test_ids_of_one_microsecond_are_in_order_of_text() -> None:
    trades = make_trades(50, symbols=("BTCUSDT",), step=timedelta(0), first_id=95, seed=5)
    check_groups(trades)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_order_of_any_rows_comes_out_sorted_and_whole(data: st.DataObject) -> None:
    trades = make_trades(30, symbols=("A", "B", "C"), seed=data.draw(st.integers(0, 99)), step=timedelta(hours=6))
    check_groups(data.draw(st.permutations(trades)))


def test_a_file_holds_the_rows_and_says_so_to_iceberg(tmp_path: Path) -> None:
    table = ensure_table(open_catalog(lake_settings(tmp_path)), "market", TRADES, "uid")
    trades = make_trades(1_000, symbols=("BTCUSDT",), seed=6)
    (group,) = sort_rows(table_form(trades))
    file = FileWriter(table, 3).write(group, "one")
    path = Path(file.file_path.removeprefix("file://"))
    metadata = pq.read_metadata(path)
    assert file.record_count == metadata.num_rows == 1_000
    assert file.file_size_in_bytes == path.stat().st_size
    assert (file.partition[0], file.partition[1]) == (group.day, group.bucket)
    assert records_of(pq.read_table(path, schema=TRADES.table_schema)) == trades
    columns = [metadata.row_group(0).column(number) for number in range(metadata.num_columns)]
    encodings = {column.path_in_schema: column.encodings for column in columns}
    for name, encoding in ENCODINGS.items():
        if name in encodings:
            assert encoding in encodings[name], name
    assert "RLE_DICTIONARY" in encodings["symbol"]
    ids = {field.name: field.metadata[b"PARQUET:field_id"] for field in pq.read_schema(path)}
    assert ids == {field.name: str(field.field_id).encode() for field in table.schema().fields}


def test_bounds_are_the_smallest_and_largest_values(tmp_path: Path) -> None:
    table = ensure_table(open_catalog(lake_settings(tmp_path)), "market", TRADES, "uid")
    (group,) = sort_rows(table_form(make_trades(100, symbols=("BTCUSDT",), seed=6)))
    file = FileWriter(table, 3).write(group, "one")
    sequence = table.schema().find_field("sequence").field_id
    assert file.lower_bounds[sequence] == (1).to_bytes(8, "little")
    assert file.upper_bounds[sequence] == (100).to_bytes(8, "little")


def test_a_warehouse_that_takes_nothing_is_a_retryable_error_that_names_the_file(tmp_path: Path) -> None:
    table = ensure_table(open_catalog(lake_settings(tmp_path)), "market", TRADES, "uid")
    (group,) = sort_rows(table_form(make_trades(10, symbols=("BTCUSDT",), seed=6)))
    (tmp_path / "warehouse/market/trades/data").write_text("a file where a folder must be")
    with pytest.raises(StorageUnavailableError, match=r"one\.parquet"):
        FileWriter(table, 3).write(group, "one")


def test_files_that_no_snapshot_names_are_removed_and_missing_ones_are_no_error(tmp_path: Path) -> None:
    table = ensure_table(open_catalog(lake_settings(tmp_path)), "market", TRADES, "uid")
    (group,) = sort_rows(table_form(make_trades(10, symbols=("BTCUSDT",), seed=6)))
    writer = FileWriter(table, 3)
    file = writer.write(group, "one")
    writer.delete([file.file_path, f"file://{tmp_path}/nowhere.parquet"])
    assert not Path(file.file_path.removeprefix("file://")).exists()
