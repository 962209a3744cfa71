"""What a table says it holds, from bounds alone where they prove it and from the rows where they do not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pyiceberg.table import Table

from k2_core.errors import StorageUnavailableError
from k2_core.intervals import IntervalSet
from k2_core.records import TRADES
from k2_core.tables import ensure_table, open_catalog
from k2_sink.files import FileWriter, sort_rows
from k2_sink.history import bounded_ids, find_rows, held_ids
from support.lake import lake_settings, table_form
from support.records import Record, make_trades

BTC = ("binance", "spot", "BTCUSDT")


def table_with(folder: Path, *batches: list[Record]) -> Table:
    table = ensure_table(open_catalog(lake_settings(folder)), "market", TRADES, "uid")
    for number, trades in enumerate(batches):
        files = [
            FileWriter(table, 3).write(group, f"{number}-{at}")
            for at, group in enumerate(sort_rows(table_form(trades)))
        ]
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
            for file in files:
                append.append_data_file(file)
    return table


def expected(trades: list[Record]) -> dict[tuple[str, str, str], IntervalSet]:
    spaces: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for trade in trades:
        space = (trade["exchange"], trade["market"], trade["symbol"])
        spaces.setdefault(space, []).append((trade["sequence"], trade["sequence"] + 1))
    return {space: IntervalSet.of_ranges(ranges) for space, ranges in spaces.items()}


def test_an_empty_table_holds_nothing(tmp_path: Path) -> None:
    assert held_ids(table_with(tmp_path)) == {}


def test_ids_of_all_files_are_found(tmp_path: Path) -> None:
    symbols = [f"S{number}USDT" for number in range(30)]
    trades = make_trades(600, symbols=symbols, seed=1, step=timedelta(minutes=5))
    del trades[100:140]
    assert held_ids(table_with(tmp_path, trades[:300], trades[300:])) == expected(trades)


def test_a_file_of_one_symbol_without_a_gap_is_not_opened(tmp_path: Path) -> None:
    trades = make_trades(50, symbols=("BTCUSDT",), seed=2)
    table = table_with(tmp_path, trades)
    for path in (tmp_path / "warehouse").rglob("*.parquet"):
        path.write_bytes(b"not to be read")
    assert held_ids(table) == {BTC: IntervalSet.of_ranges([(1, 51)])}


@pytest.mark.parametrize(
    "trades",
    [
        pytest.param(make_trades(50, symbols=("BTCUSDT",), seed=3)[::2], id="with gaps"),
        pytest.param(make_trades(50, symbols=("BTCUSDT", "S18USDT"), seed=3), id="two symbols"),
        pytest.param(
            [trade | {"sequence": None} for trade in make_trades(5, symbols=("B",), seed=3)], id="no sequence"
        ),
        pytest.param(make_trades(5, symbols=("AVERYLONGSYMBOLNAME",), seed=3), id="symbol as long as a bound"),
    ],
)
def test_bounds_that_prove_nothing_are_not_trusted(tmp_path: Path, trades: list[Record]) -> None:
    table = ensure_table(open_catalog(lake_settings(tmp_path)), "market", TRADES, "uid")
    rows = table_form(trades)
    (group, *_) = sort_rows(rows)
    file = FileWriter(table, 3).write(type(group)(group.day, group.bucket, rows), "one")
    assert bounded_ids(table, file) is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    table = table_with(tmp_path, make_trades(50, symbols=("BTCUSDT",), seed=4)[::2])
    (path,) = (tmp_path / "warehouse").rglob("*.parquet")
    path.unlink()
    with pytest.raises(StorageUnavailableError, match=r"\.parquet"):
        held_ids(table)
    with pytest.raises(StorageUnavailableError):
        find_rows(table, table_form(make_trades(50, symbols=("BTCUSDT",), seed=4)))


def test_rows_of_given_ids_are_found_and_no_others(tmp_path: Path) -> None:
    trades = make_trades(200, symbols=("BTCUSDT", "ETHUSDT"), seed=5)
    table = table_with(tmp_path, trades[:100], trades[100:])
    wanted = [trades[3], trades[150], *make_trades(1, symbols=("XRPUSDT",), seed=6)]
    found = find_rows(table, table_form(wanted)).to_pylist()
    key = "message_id"
    assert {row[key]: row["price"] for row in found} == {trade[key]: trade["price"] for trade in wanted[:2]}
