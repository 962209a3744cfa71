from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from k2_core.errors import QueryError, RetryableError, StorageUnavailableError
from k2_core.records import TRADES
from k2_query.budget import Budget
from k2_query.duckdb_engine import DuckDBEngine
from k2_query.file_index import FileIndex, read_stats
from k2_query.files import LocalFiles
from k2_query.lake import NO_TABLE, LakeSnapshot
from k2_query.ordering import Order
from k2_query.params import to_us
from k2_query.segments import Window
from support.query import BASE, Logged, Record, World, event_time, make_record, make_records, table_rows

NOTHING = TRADES.table_schema.empty_table()
EVERYTHING = Window("BTCUSDT", 0, 2**62)


def logged(records: list[Record]) -> pa.Table:
    return table_rows([Logged(record, "t", 0, at) for at, record in enumerate(records)])  # type: ignore[arg-type]


def snapshot_of(world: World) -> LakeSnapshot:
    table = world.catalog.load_table((world.namespace, "trades"))
    files = [read_stats(task.file, table.schema(), table.spec()) for task in table.scan().plan_files()]
    return LakeSnapshot(None, None, None, None, FileIndex(files))


def engine_of(folder: Path, **limits: int) -> DuckDBEngine:
    settings = {"memory_bytes": 128 << 20, "threads": 2, "cursors": 2} | limits
    return DuckDBEngine(LocalFiles(f"file://{folder}/warehouse"), **settings)


@pytest.fixture(scope="module", params=["plain", "odd [a]*b'c"])
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DuckDBEngine, LakeSnapshot, list[Record]]]:
    """An engine over 30 commits whose times overlap, in folders with usual and with unusual names."""
    folder = tmp_path_factory.mktemp("engine") / request.param
    folder.mkdir()
    with closing(World("127.0.0.1:1", folder, "engine")) as world, closing(engine_of(folder)) as engine:
        everything: list[Record] = []
        for number in range(30):
            at = BASE + timedelta(seconds=number * 7 % 30)
            records = make_records("BTCUSDT", number * 100, 25, at, 100_000)
            if number == 3:
                records = [record | {"sequence": None} for record in records]
            records += make_records("ETHUSDT", number * 100, 5, at)
            world.write(logged(records), None)
            everything += records
        yield engine, snapshot_of(world), everything


def expected_ids(records: list[Record], window: Window, order: Order, limit: int) -> list[str]:
    found = [
        record
        for record in records
        if record["symbol"] == window.symbol and window.start_us <= to_us(event_time(record)) < window.end_us
    ]
    found.sort(
        key=lambda one: (event_time(one), one["sequence"] is None, one["sequence"] or 0, one["message_id"]),
        reverse=order is Order.DESC,
    )
    return [record["message_id"] for record in found[:limit]]


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("limit", [1, 10, 100, 10_000])
@pytest.mark.parametrize(
    "window",
    [
        EVERYTHING,
        Window("BTCUSDT", to_us(BASE) + 3_000_000, to_us(BASE) + 9_100_001),
        Window("ETHUSDT", 0, to_us(BASE) + 5_000_000),
        Window("XRPUSDT", 0, 2**62),
        Window("BTCUSDT", -(2**62), 1),
    ],
    ids=["all", "middle", "other", "unknown", "before"],
)
def test_rows_are_the_first_of_the_window(
    stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]], window: Window, order: Order, limit: int
) -> None:
    engine, lake, records = stored
    rows = engine.rows(lake, window, order, limit, Budget(20))
    assert rows.schema == TRADES.table_schema
    assert rows.column("message_id").to_pylist() == expected_ids(records, window, order, limit)


def test_values_are_those_that_were_written(stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]]) -> None:
    engine, lake, records = stored
    rows = engine.rows(lake, EVERYTHING, Order.ASC, 50, Budget(20)).to_pylist()
    by_id = {record["message_id"]: record for record in records}
    for row in rows:
        record = by_id[row["message_id"]]
        assert {name: row[name] for name in record if name != "vendor_data"} == {
            name: value for name, value in record.items() if name != "vendor_data"
        }
        assert dict(row["vendor_data"]) == record["vendor_data"]


def test_a_small_limit_reads_few_files(
    stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, lake, records = stored
    read: list[int] = []
    original = DuckDBEngine._table

    def counting(self: DuckDBEngine, text: str, parameters: list[object], *rest: object) -> pa.Table:
        paths = parameters[0]
        assert isinstance(paths, list)
        read.append(len(paths))
        return original(self, text, parameters, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(DuckDBEngine, "_table", counting)
    assert engine.rows(lake, EVERYTHING, Order.DESC, 5, Budget(20)).num_rows == 5
    assert sum(read) < 15
    assert expected_ids(records, EVERYTHING, Order.DESC, 5)


def test_known_ids_are_those_of_the_window(stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]]) -> None:
    engine, lake, _ = stored
    candidates = make_records("BTCUSDT", 110, 30, BASE)
    found = engine.known_ids(lake, EVERYTHING, logged(candidates), Budget(20)).to_pylist()
    assert sorted(found) == sorted(f"binance:spot:BTCUSDT:{number}" for number in range(110, 125))
    later = Window("BTCUSDT", to_us(BASE) + 3_600_000_000, 2**62)
    assert engine.known_ids(lake, later, logged(candidates), Budget(20)).to_pylist() == []
    assert engine.known_ids(lake, EVERYTHING, NOTHING, Budget(20)).to_pylist() == []


def test_known_ids_without_sequences(stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]]) -> None:
    engine, lake, _ = stored
    candidates = [record | {"sequence": None} for record in make_records("BTCUSDT", 300, 30, BASE)]
    found = engine.known_ids(lake, EVERYTHING, logged(candidates), Budget(20)).to_pylist()
    assert sorted(found) == sorted(f"binance:spot:BTCUSDT:{number}" for number in range(300, 325))


def test_days_of_table_and_log(stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]]) -> None:
    engine, lake, records = stored
    more = make_records("BTCUSDT", 90_000, 4, BASE + timedelta(days=1))
    [first, second] = engine.daily(lake, EVERYTHING, logged(more), Budget(20))
    own = [record for record in records if record["symbol"] == "BTCUSDT"]
    assert first.trades == len(own)
    assert first.volume == sum(record["quantity"] for record in own)
    assert first.notional == sum(record["price"] * record["quantity"] for record in own)
    assert (second.open, second.close) == (more[0]["price"], more[-1]["price"])
    assert [day.day for day in engine.daily(NO_TABLE, EVERYTHING, logged(more), Budget(20))] == [second.day]
    assert engine.daily(NO_TABLE, EVERYTHING, NOTHING, Budget(20)) == []
    assert [day.trades for day in engine.daily(lake, EVERYTHING, NOTHING, Budget(20))] == [first.trades]


def test_sums_beyond_38_digits_are_refused(stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]]) -> None:
    engine, _, _ = stored
    huge = make_record("BTCUSDT", 1, BASE, price=Decimal(9999999999), quantity=Decimal(99999999999999999999))
    with pytest.raises(QueryError, match="too large to answer"):
        engine.daily(NO_TABLE, EVERYTHING, logged([huge]), Budget(20))


def test_symbols_are_asked_of_each_file_once(
    stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, lake, records = stored
    first = engine.symbols(lake, Budget(20))
    bitcoin = [span for span in first if span.symbol == "BTCUSDT"]
    own = [to_us(event_time(record)) for record in records if record["symbol"] == "BTCUSDT"]
    assert min(span.first_us for span in bitcoin) == min(own)
    assert max(span.last_us for span in bitcoin) == max(own)
    monkeypatch.setattr(DuckDBEngine, "_table", None)
    assert engine.symbols(lake, Budget(20)) == first
    assert engine.symbols(NO_TABLE, Budget(20)) == []


def test_a_budget_that_is_over_stops_a_running_query(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    with closing(engine_of(tmp_path)) as engine:
        budget = Budget(60)
        killer = threading.Timer(0.2, lambda: budget.cancel("query: found its client gone"))
        killer.start()
        endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
        with pytest.raises(RetryableError, match="client gone"):
            engine._table(endless, [], budget)
        killer.join()
        assert engine._table("SELECT 1", [], Budget(20)).num_rows == 1


def test_an_interruption_from_elsewhere_can_be_retried(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    with closing(engine_of(tmp_path, cursors=1)) as engine:
        cursor = engine._cursors.queue[0]
        killer = threading.Timer(0.2, cursor.interrupt)
        killer.start()
        with pytest.raises(RetryableError, match="found an interruption"):
            engine._table("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", [], Budget(60))
        killer.join()


def test_no_free_cursor_in_time(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    with (
        closing(engine_of(tmp_path, cursors=1)) as engine,
        engine._cursor(Budget(5)),
        pytest.raises(RetryableError, match="all cursors busy"),
    ):
        engine._table("SELECT 1", [], Budget(0.05))


def test_more_memory_than_allowed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    hungry = "SELECT list(range || repeat('x', 1000)) FROM range(1000000)"
    with closing(engine_of(tmp_path, memory_bytes=16 << 20)) as engine, pytest.raises(QueryError, match="too large"):
        engine._table(hungry, [], Budget(60))


def test_a_missing_file_is_storage_that_is_away(stored: tuple[DuckDBEngine, LakeSnapshot, list[Record]]) -> None:
    engine, lake, _ = stored
    from dataclasses import replace

    gone = [replace(file, path=file.path + ".gone") for file in lake.index.files]
    with pytest.raises(StorageUnavailableError, match="warehouse"):
        engine.rows(replace(lake, index=FileIndex(gone)), EVERYTHING, Order.ASC, 5, Budget(20))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '/tmp/k2-escape.csv'",
        "ATTACH '/tmp/k2-escape.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SELECT * FROM glob('/etc/*')",
    ],
)
def test_the_database_is_locked_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "warehouse").mkdir()
    with closing(engine_of(tmp_path)) as engine, pytest.raises((duckdb.Error, StorageUnavailableError)):
        engine._connection.execute(text).fetchall()
