from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record as Partition
from pyiceberg.types import LongType, NestedField

from k2_core.errors import StateError
from k2_core.records import TRADES
from k2_query.file_index import EMPTY_INDEX, FileIndex, bucket_of, read_stats
from k2_query.params import to_us
from k2_query.segments import Window
from support.query import BASE, Logged, Record, World, event_time, make_record, make_records, table_rows

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "AVERYLONGSYMBOLINDEEDX", "AVERYLONGSYMBOLINDEEDY")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FileIndex, dict[str, list[Record]]]]:
    """An index of 12 commits and what each file really holds."""
    with closing(World("127.0.0.1:1", tmp_path_factory.mktemp("index"), "index")) as world:
        for number in range(12):
            records = [
                record
                for symbol in SYMBOLS
                for record in make_records(symbol, number * 10, 10, BASE + timedelta(minutes=number))
            ]
            if number == 11:
                records = [make_record("BTCUSDT", 900 + at, BASE, sequence=None) for at in range(3)]
            world.write(
                table_rows([Logged(record, "t", 0, at) for at, record in enumerate(records)]),  # type: ignore[arg-type]
                None,
            )
        table = world.catalog.load_table(("index", "trades"))
        files = [task.file for task in table.scan().plan_files()]
        index = FileIndex([read_stats(file, table.schema(), table.spec()) for file in files])
        rows = {task.file.file_path: table.io.new_input(task.file.file_path) for task in table.scan().plan_files()}
        import pyarrow.parquet as pq

        held = {
            path: pq.read_table(source.location.removeprefix("file://")).to_pylist() for path, source in rows.items()
        }
        yield index, held


WINDOWS = [
    Window(symbol, to_us(BASE + timedelta(seconds=start)), to_us(BASE + timedelta(seconds=end)))
    for symbol in (*SYMBOLS, "XRPUSDT", None)
    for start, end in ((0, 1), (60, 120), (90, 91), (0, 10_000), (-100, 0))
]


@pytest.mark.parametrize(
    "window", WINDOWS, ids=lambda window: f"{window.symbol}-{window.start_us % 10**9}-{window.end_us % 10**9}"
)
@pytest.mark.parametrize("sequence", [None, (15, 25)], ids=["any-sequence", "sequence"])
def test_pruning_never_loses_a_row_and_spares_most_files(
    stored: tuple[FileIndex, dict[str, list[Record]]], window: Window, sequence: tuple[int, int] | None
) -> None:
    index, held = stored
    chosen = {file.path for file in index.pick(index.prune(window, sequence))}
    needed = {
        path
        for path, rows in held.items()
        if any(
            window.symbol in {None, row["symbol"]}
            and window.start_us <= to_us(event_time(row)) < window.end_us
            and (sequence is None or (row["sequence"] is not None and sequence[0] <= row["sequence"] <= sequence[1]))
            for row in rows
        )
    }
    assert needed <= chosen
    assert len(chosen - needed) <= 12


def test_files_are_met_in_the_order_of_time(stored: tuple[FileIndex, dict[str, list[Record]]]) -> None:
    index, _ = stored
    everything = index.prune(Window(None, 0, 2**62))
    numbers, begins = index.in_time_order(everything, newest_first=False)
    assert sorted(numbers.tolist()) == sorted(everything.tolist())
    assert begins.tolist() == sorted(index.files[number].event_us[0] for number in everything.tolist())
    numbers, begins = index.in_time_order(everything, newest_first=True)
    assert begins.tolist() == sorted((index.files[number].event_us[1] for number in numbers.tolist()), reverse=True)


def test_figures_of_the_whole(stored: tuple[FileIndex, dict[str, list[Record]]]) -> None:
    index, held = stored
    assert int(index.rows.sum()) == sum(len(rows) for rows in held.values())
    assert index.newest_event_us == max(to_us(event_time(row)) for rows in held.values() for row in rows)
    newest = index.newest_event_us
    assert index.newest_window(60) == Window("AVERYLONGSYMBOLINDEEDX"[:16], newest - 59_999_999, newest + 1)
    assert index.nbytes == sum(Path(path.removeprefix("file://")).stat().st_size for path in held)
    assert index.partitions == len({file.partition for file in index.files})


def test_an_empty_index() -> None:
    assert EMPTY_INDEX.prune(Window("X", 0, 1)).tolist() == []
    assert EMPTY_INDEX.newest_event_us is None
    assert EMPTY_INDEX.newest_window(60) is None
    assert (EMPTY_INDEX.nbytes, EMPTY_INDEX.partitions) == (0, 0)


def file_of(content: DataFileContent = DataFileContent.DATA) -> DataFile:
    return DataFile.from_args(
        content=content,
        file_path="file:///x/y.parquet",
        file_format=FileFormat.PARQUET,
        partition=Partition(),
        record_count=3,
        file_size_in_bytes=10,
        lower_bounds=None,
        upper_bounds=None,
        null_value_counts=None,
    )


def test_a_file_without_statistics_is_always_looked_into() -> None:
    schema = TRADES.iceberg_schema
    stats = read_stats(file_of(), schema, UNPARTITIONED_PARTITION_SPEC)
    index = FileIndex([stats])
    assert index.prune(Window("BTCUSDT", 5, 6), (1, 2)).tolist() == [0]
    assert stats.bucket is None
    assert index.newest_window(60) is None


def test_a_table_of_other_columns_can_be_counted() -> None:
    stats = read_stats(file_of(), Schema(NestedField(1, "x", LongType())), UNPARTITIONED_PARTITION_SPEC)
    assert (stats.rows, stats.nbytes) == (3, 10)


def test_row_level_deletes_are_refused_rather_than_ignored() -> None:
    with pytest.raises(StateError, match="found row-level deletes"):
        read_stats(file_of(DataFileContent.POSITION_DELETES), TRADES.iceberg_schema, UNPARTITIONED_PARTITION_SPEC)


def test_buckets_are_iceberg_s() -> None:
    assert {bucket_of(symbol) for symbol in SYMBOLS} <= set(range(16))
    assert isinstance(np.int64(bucket_of("BTCUSDT")), np.int64)
