"""The contract of `k2_query.engine`, held against each engine over the same real table.

Expected values are worked out here from the trades that were written, never by an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2_core.errors import QueryError, RetryableError, StorageUnavailableError
from k2_core.records import TRADES
from k2_query.boundary import without
from k2_query.budget import Budget
from k2_query.engine import Day, Engine
from k2_query.lake import NO_TABLE
from k2_query.ordering import Order
from k2_query.params import to_us
from k2_query.segments import Window
from support.engines import (
    BLOCKS,
    FOREVER,
    HUGE,
    NAMESPACE,
    ODD,
    Contract,
    commits,
    duckdb_engine,
    first_ids,
    followed,
    logged,
    prints,
    trino_engine,
    within,
)
from support.postgres import LocalPostgres
from support.query import BASE, Record, World, event_time, make_record, make_records
from support.s3 import LocalS3

NOTHING = TRADES.table_schema.empty_table()
ALL = Window("BTCUSDT", 0, FOREVER)
TIE_US = to_us(BASE) + 3_000_000
MIDNIGHT_US = to_us(BASE) + 600_000_000
ENGINES = ["duckdb", pytest.param("trino", marks=pytest.mark.trino)]


def budget() -> Budget:
    return Budget(120)


def off_market(record: Record) -> bool:
    return record["asset_class"] == "equities" and "off_market" in record["vendor_data"]


def world_of(postgres: LocalPostgres, s3: LocalS3, folder: Path) -> World:
    lake = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
    return World("127.0.0.1:1", folder, NAMESPACE, lake=lake)


def open_engine(name: str, world: World, folder: Path, request: pytest.FixtureRequest) -> Engine:
    if name == "duckdb":
        return duckdb_engine(world, folder / "cache")
    return trino_engine(world, request.getfixturevalue("trino"))


@pytest.fixture(scope="module")
def contract(postgres: LocalPostgres, s3: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    folder = tmp_path_factory.mktemp("contract")
    with closing(world_of(postgres, s3, folder)) as world, followed(world, commits()) as made:
        yield made


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    with closing(open_engine(request.param, contract.world, tmp_path_factory.mktemp("engine"), request)) as made:
        yield made


class TestRows:
    @pytest.mark.parametrize("order", list(Order))
    @pytest.mark.parametrize(
        ("window", "limit"),
        [
            (ALL, 10_000),
            (ALL, 1),
            (ALL, 17),
            (Window("BTCUSDT", TIE_US, TIE_US + 1), 100),
            (Window("BTCUSDT", TIE_US + 1, TIE_US + 2), 100),
            (Window("BTCUSDT", TIE_US - 1, TIE_US), 100),
            (Window("BTCUSDT", MIDNIGHT_US - 2_000_000, MIDNIGHT_US + 2_000_001), 100),
            (Window(ODD, 0, FOREVER), 5),
            (Window("XRPUSDT", 0, FOREVER), 5),
            (Window("BTCUSDT", -FOREVER, 1), 5),
            (Window("BTCUSDT", to_us(BASE + timedelta(days=300)), FOREVER), 5),
        ],
        ids=["all", "one", "some", "tie", "after-tie", "before-tie", "midnight", "odd", "unknown", "before", "after"],
    )
    def test_they_are_the_first_of_the_window(
        self, engine: Engine, contract: Contract, window: Window, limit: int, order: Order
    ) -> None:
        rows = engine.rows(contract.newest, window, order, limit, budget())
        assert rows.schema == TRADES.table_schema
        assert rows.column("message_id").to_pylist() == first_ids(contract.everything, window, order, limit)

    @pytest.mark.parametrize("symbol", ["BTCUSDT", ODD])
    def test_each_value_is_the_one_that_was_written(self, engine: Engine, contract: Contract, symbol: str) -> None:
        window = Window(symbol, 0, FOREVER)
        rows = engine.rows(contract.newest, window, Order.ASC, 10_000, budget())
        expected = within(contract.everything, window)
        assert [plain(row) for row in rows.to_pylist()] == [plain(record) for record in expected]
        assert rows.column("event_time").to_pylist() == [event_time(record) for record in expected]
        assert rows.column("price").type == pa.decimal128(18, 8)
        assert rows.column("sequence").null_count == sum(record["sequence"] is None for record in expected)

    @pytest.mark.parametrize("number", range(4))
    def test_a_snapshot_shows_what_was_committed_until_then(
        self, engine: Engine, contract: Contract, number: int
    ) -> None:
        rows = engine.rows(contract.snapshots[number], ALL, Order.ASC, 10_000, budget())
        assert rows.column("message_id").to_pylist() == first_ids(contract.upto(number), ALL, Order.ASC, 10_000)

    def test_a_moment_shows_what_was_committed_until_then(self, engine: Engine, contract: Contract) -> None:
        moment = contract.snapshots[1].committed_at
        assert moment is not None
        lake = contract.lake.as_of(moment, contract.head)
        rows = engine.rows(lake, ALL, Order.DESC, 10_000, budget())
        assert rows.column("message_id").to_pylist() == first_ids(contract.upto(1), ALL, Order.DESC, 10_000)

    def test_no_table_has_none(self, engine: Engine) -> None:
        assert engine.rows(NO_TABLE, ALL, Order.ASC, 5, budget()).equals(NOTHING)


class TestCheck:
    def test_it_is_content_with_a_table_and_without(self, contract: Contract, engine: Engine) -> None:
        engine.check(NO_TABLE, budget())
        engine.check(contract.newest, budget())


class TestKnownIds:
    def test_they_are_those_of_both(self, engine: Engine, contract: Contract) -> None:
        candidates = [*within(contract.everything, ALL)[::3], *make_records("BTCUSDT", 70_000, 40, BASE)]
        expected = {record["message_id"] for record in within(contract.everything, ALL)[::3]}
        found = engine.known_ids(contract.newest, ALL, logged(candidates), budget())
        assert found.type == pa.string()
        assert sorted(found.to_pylist()) == sorted(expected)

    def test_records_without_sequence_are_known_too(self, engine: Engine, contract: Contract) -> None:
        candidates = [record for record in within(contract.everything, ALL) if record["sequence"] is None]
        assert len(candidates) == 2
        found = engine.known_ids(contract.newest, ALL, logged(candidates), budget())
        assert sorted(found.to_pylist()) == sorted(record["message_id"] for record in candidates)

    def test_only_the_window_counts(self, engine: Engine, contract: Contract) -> None:
        window = Window("BTCUSDT", TIE_US, MIDNIGHT_US)
        found = engine.known_ids(contract.newest, window, logged(within(contract.everything, ALL)), budget())
        assert sorted(found.to_pylist()) == sorted(one["message_id"] for one in within(contract.everything, window))

    def test_only_the_snapshot_counts(self, engine: Engine, contract: Contract) -> None:
        found = engine.known_ids(contract.snapshots[0], ALL, logged(within(contract.everything, ALL)), budget())
        assert sorted(found.to_pylist()) == sorted(one["message_id"] for one in within(contract.upto(0), ALL))

    @pytest.mark.parametrize("records", [[], make_records("BTCUSDT", 90_000, 3, BASE)], ids=["no-rows", "newer"])
    def test_none_are_none(self, engine: Engine, contract: Contract, records: list[Record]) -> None:
        assert engine.known_ids(contract.newest, ALL, logged(records), budget()).to_pylist() == []
        assert engine.known_ids(NO_TABLE, ALL, logged(records), budget()).to_pylist() == []


class TestDaily:
    def test_days_of_the_table(self, engine: Engine, contract: Contract) -> None:
        days = engine.daily(contract.newest, ALL, NOTHING, budget())
        assert shown(days) == shown(expected_days(within(contract.everything, ALL)))
        assert [day.day for day in days] == [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]

    def test_days_of_a_part_of_the_table(self, engine: Engine, contract: Contract) -> None:
        window = Window("BTCUSDT", TIE_US, MIDNIGHT_US + 1)
        days = engine.daily(contract.snapshots[2], window, NOTHING, budget())
        assert shown(days) == shown(expected_days(within(contract.upto(2), window)))

    @pytest.mark.parametrize("shift", [timedelta(days=-2), timedelta(0), timedelta(seconds=3), timedelta(days=1)])
    def test_the_log_s_rows_take_part_where_they_belong(
        self, engine: Engine, contract: Contract, shift: timedelta
    ) -> None:
        more = make_records("BTCUSDT", 80_000, 25, BASE + shift, 1_000)
        more += [make_record("BTCUSDT", 80_100, BASE + shift, sequence=None)]
        more += [make_record("BTCUSDT", 80_101, BASE + shift, price=Decimal("0.00000001"), sequence=1)]
        days = engine.daily(contract.newest, ALL, logged(more), budget())
        assert shown(days) == shown(expected_days(within([*contract.everything, *more], ALL)))

    def test_what_both_hold_counts_once(self, engine: Engine, contract: Contract) -> None:
        both = within(contract.everything, ALL)[5:40]
        more = make_records("BTCUSDT", 60_000, 10, BASE - timedelta(seconds=5), 1_000)
        log = logged([*both, *more])
        fresh = without(log, engine.known_ids(contract.newest, ALL, log, budget()))
        days = engine.daily(contract.newest, ALL, fresh, budget())
        assert shown(days) == shown(expected_days(within([*contract.everything, *more], ALL)))

    def test_days_of_the_log_alone(self, engine: Engine, contract: Contract) -> None:
        more = make_records("BTCUSDT", 60_000, 10, BASE, 120_000_000)
        days = engine.daily(NO_TABLE, ALL, logged(more), budget())
        assert shown(days) == shown(expected_days(within(more, ALL)))
        later = Window("BTCUSDT", to_us(BASE + timedelta(days=100)), FOREVER)
        assert engine.daily(contract.newest, later, NOTHING, budget()) == []
        assert engine.daily(NO_TABLE, ALL, NOTHING, budget()) == []

    def test_prints_off_the_market_are_in_no_day(self, engine: Engine, contract: Contract) -> None:
        """Of the table and of the log, and they are among the rows all the same."""
        window, more = Window(BLOCKS, 0, FOREVER), prints(40, 9, BASE - timedelta(days=1))
        days = engine.daily(contract.newest, window, logged(more), budget())
        kept = [record for record in within([*contract.everything, *more], window) if not off_market(record)]
        assert shown(days) == shown(expected_days(kept))
        assert sum(day.trades for day in days) == 14 + 1 + 6
        assert engine.rows(contract.newest, window, Order.ASC, 100, budget()).num_rows == 21
        only_off = [record for record in more if off_market(record)]
        assert engine.daily(NO_TABLE, window, logged(only_off), budget()) == []

    def test_sums_of_more_than_38_digits_are_refused(self, engine: Engine, contract: Contract) -> None:
        window = Window(HUGE, 0, FOREVER)
        with pytest.raises(QueryError, match=r"^end: found a window too large to answer"):
            engine.daily(contract.newest, window, NOTHING, budget())
        log = logged(within(contract.everything, window))
        with pytest.raises(QueryError, match=r"^end: found a window too large to answer"):
            engine.daily(NO_TABLE, window, log, budget())


class TestSymbols:
    @pytest.mark.parametrize("number", [3, 0, 2])
    def test_each_with_its_first_and_last_trade(self, engine: Engine, contract: Contract, number: int) -> None:
        found: dict[tuple[str, ...], tuple[int, int]] = {}
        for span in engine.symbols(contract.snapshots[number], budget()):
            key = (span.symbol, span.exchange, span.market, span.asset_class)
            first, last = found.get(key, (span.first_us, span.last_us))
            found[key] = (min(first, span.first_us), max(last, span.last_us))
        expected: dict[tuple[str, ...], list[int]] = {}
        for record in contract.upto(number):
            key = tuple(record[name] for name in ("symbol", "exchange", "market", "asset_class"))
            expected.setdefault(key, []).append(to_us(event_time(record)))
        assert found == {key: (min(times), max(times)) for key, times in expected.items()}

    def test_no_table_has_none(self, engine: Engine) -> None:
        assert engine.symbols(NO_TABLE, budget()) == []


class TestBudget:
    @pytest.mark.parametrize("question", ["rows", "known_ids", "daily", "symbols"])
    def test_one_that_is_cancelled_answers_nothing(self, contract: Contract, question: str, fresh: Engine) -> None:
        spent = budget()
        spent.cancel("query: found its client gone")
        lake, log = contract.newest, logged(contract.everything[:3])
        ask: dict[str, Callable[[], object]] = {
            "rows": lambda: fresh.rows(lake, ALL, Order.ASC, 5, spent),
            "known_ids": lambda: fresh.known_ids(lake, ALL, log, spent),
            "daily": lambda: fresh.daily(lake, ALL, log, spent),
            "symbols": lambda: fresh.symbols(lake, spent),
        }
        with pytest.raises(RetryableError, match=r"^query: found its client gone$"):
            ask[question]()

    def test_one_that_is_over_answers_nothing(self, engine: Engine, contract: Contract) -> None:
        moments = iter([0.0, *[11.0] * 100])
        with pytest.raises(RetryableError, match="found no end after 10 s, expected one; ask for less"):
            engine.rows(contract.newest, ALL, Order.ASC, 5, Budget(10, lambda: next(moments)))

    @pytest.fixture(params=ENGINES)
    def fresh(self, request: pytest.FixtureRequest, contract: Contract, tmp_path: Path) -> Iterator[Engine]:
        """An engine that has read nothing before."""
        with closing(open_engine(request.param, contract.world, tmp_path, request)) as made:
            yield made


@pytest.mark.parametrize("name", ENGINES)
def test_a_file_that_is_gone_is_storage_that_is_away(
    name: str, postgres: LocalPostgres, s3: LocalS3, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with closing(world_of(postgres, s3, tmp_path)) as world, followed(world, [make_records("A", 1, 3, BASE)]) as made:
        [file] = made.newest.index.files
        with closing(open_engine(name, world, tmp_path, request)) as engine:
            (s3.directory / "buckets" / file.path.removeprefix("s3://")).unlink()
            with pytest.raises(StorageUnavailableError, match="warehouse"):
                engine.rows(made.newest, Window("A", 0, FOREVER), Order.ASC, 5, budget())


def plain(row: Record) -> dict[str, Any]:
    """Return a row with what a record has, texts of the venue by name."""
    names = TRADES.wire_schema.names
    return {name: dict(row[name]) if name == "vendor_data" else row[name] for name in names}


def shown(days: list[Day]) -> list[str]:
    """Return days with all their places: Decimals of other scales are equal."""
    return [repr(day) for day in days]


def expected_days(records: list[Record]) -> list[Day]:
    """Return the days of records that are in order, summed up one by one."""
    days: dict[date, Day] = {}
    for record in records:
        day, price, quantity = event_time(record).date(), record["price"], record["quantity"]
        before = days.get(day, Day(day, price, price, price, price, Decimal(0), Decimal(0), 0))
        with localcontext(prec=100):
            days[day] = replace(
                before,
                high=max(before.high, price),
                low=min(before.low, price),
                close=price,
                volume=before.volume + quantity,
                notional=before.notional + price * quantity,
                trades=before.trades + 1,
            )
    return [days[day] for day in sorted(days)]
