"""Maintenance on a real Trino, between and during a sink's commits: nothing is lost, nothing counted twice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from k2_cli.stack import ports
from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import EngineError, EngineUnavailableError
from k2_core.quality import QUALITY
from k2_core.raw_files import RawFiles, Section, raw_rows
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState, LedgerEntry
from k2_core.tables import load_table
from k2_core.types import Offset, TopicId
from k2_query.maintenance.statements import Action, Task
from k2_query.maintenance.upkeep import ATTEMPTS
from k2_sink.commit import Committed
from k2_sink.protocol import Claim, Span
from k2_sink.raw_sweep import named
from support.lake import by_message_id, trades_table
from support.maintained import AT, DAY, OWNER, Maintained, maintained
from support.postgres import LocalPostgres
from support.records import make_trades
from support.s3 import LocalS3
from support.sink import SinkWorkspace
from support.trino import OUTSIDER, LocalTrino
from support.waiting import wait_until

pytestmark = pytest.mark.trino


@pytest.fixture
def lake(trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3) -> Iterator[Maintained]:
    with maintained(trino, postgres, s3) as made:
        yield made


def test_a_sink_goes_on_from_the_property_after_a_rewrite_and_an_expiry(lake: Maintained) -> None:
    for seed in range(4):
        lake.commit(100, seed)
    lake.look()
    outcomes = lake.maintain()
    optimize, expire, orphans = outcomes[:3]
    assert [one.task.action for one in (optimize, expire, orphans)] == [Action.OPTIMIZE, Action.EXPIRE, Action.ORPHANS]
    assert optimize.task.day == DAY
    assert optimize.after is not None
    assert expire.after is not None
    assert (optimize.before.files, optimize.after.files) == (8, 2)
    assert (expire.before.snapshots, expire.after.snapshots) == (5, 1)
    assert expire.after.files < expire.before.files
    table = trades_table(lake.settings)
    assert table is not None
    [only] = table.snapshots()
    assert only.summary is not None
    assert STATE_KEY not in only.summary.additional_properties  # Trino's own: the property is what is left
    assert by_message_id(lake.held()) == by_message_id(lake.records)
    for seed in range(4, 7):
        lake.commit(100, seed)
    lake.look()
    lake.maintain()
    lake.commit(100, 7)
    assert by_message_id(lake.held()) == by_message_id(lake.records)
    assert CommitState.parse(lake.writer.load()[0].properties[STATE_KEY]).partition(*AT) is not None


def test_what_is_put_together_is_sorted_as_the_table_says(lake: Maintained) -> None:
    for seed in range(3):
        lake.commit(200, seed)
    lake.look()
    lake.maintain()
    table = trades_table(lake.settings)
    assert table is not None
    paths = table.inspect.files().column("file_path").to_pylist()
    assert len(paths) == 2
    for path in paths:
        with table.io.new_input(path).open() as source:
            rows = pq.read_table(source, columns=["symbol", "event_time", "trade_id"]).to_pylist()
        assert rows == sorted(rows, key=lambda row: (row["symbol"], row["event_time"], row["trade_id"]))


def test_nothing_is_left_to_do_right_after(lake: Maintained) -> None:
    lake.commit(100, 1)
    lake.commit(100, 2)
    lake.look()
    lake.maintain()
    before = lake.writer.load()[0].metadata.current_snapshot_id
    assert Action.OPTIMIZE not in {one.task.action for one in lake.maintain()}
    assert lake.writer.load()[0].metadata.current_snapshot_id == before


def test_a_preview_does_nothing(lake: Maintained) -> None:
    lake.commit(100, 1)
    lake.commit(100, 2)
    lake.look()
    before = lake.writer.load()[0].metadata
    with lake.upkeep() as upkeep:
        outcomes = list(upkeep.preview(upkeep.plan()))
    assert [(one.attempts, one.after, one.error) for one in outcomes] == [(0, None, None)] * len(outcomes)
    assert lake.writer.load()[0].metadata == before


def test_today_is_left_to_tomorrow(lake: Maintained) -> None:
    lake.commit(100, 1)
    lake.commit(100, 2)
    lake.look()
    now = dt.datetime.combine(DAY, dt.time(23, 59), dt.UTC)
    with lake.upkeep(utc_now=lambda: now) as upkeep:
        assert Action.OPTIMIZE not in {task.action for task in upkeep.plan().tasks}


class TestEnrichment:
    def test_each_row_is_looked_at_once_whatever_is_rewritten(self, lake: Maintained) -> None:
        lake.commit(100, 1, ("BTCUSDT",))
        assert lake.look() == 100
        lake.commit(50, 2, ("BTCUSDT",))
        with lake.upkeep() as upkeep:
            plan = upkeep.plan()
        assert [(table, part.day) for table, part in plan.waiting] == [("trades", DAY)]
        assert Action.OPTIMIZE not in {task.action for task in plan.tasks}
        assert lake.look() == 50
        lake.commit(30, 3, ("ETHUSDT",))  # of another partition of the day, so that this waits, too
        assert lake.look() == 30
        lake.maintain()
        assert lake.look() == 0
        lake.commit(20, 4, ("BTCUSDT",))
        assert lake.look() == 20
        found = load_table(lake.catalog, "market", QUALITY)
        assert found is not None
        rows = found.scan().to_arrow().to_pylist()
        unlisted = [row["trades"] for row in rows if row["finding"] == "unlisted_symbol"]
        assert sum(unlisted) == len(lake.records) == 200

    def test_the_table_of_findings_is_maintained_too(self, lake: Maintained) -> None:
        for seed in range(3):
            lake.commit(10, seed)
            lake.look()
        before = load_table(lake.catalog, "market", QUALITY)
        assert before is not None
        rows = before.scan().to_arrow().to_pylist()
        quality = [one for one in lake.maintain() if one.task.table == "quality"]
        assert [one.task.action for one in quality] == [Action.OPTIMIZE, Action.EXPIRE, Action.ORPHANS]
        assert quality[0].after is not None
        assert (quality[0].before.files, quality[0].after.files) == (3, 1)
        after = load_table(lake.catalog, "market", QUALITY)
        assert after is not None
        assert sorted(map(repr, after.scan().to_arrow().to_pylist())) == sorted(map(repr, rows))
        lake.commit(10, 5)
        assert lake.look() == 10


class TestRawFiles:
    def defer(self, lake: Maintained, files: RawFiles) -> str:
        state = lake.writer.load()[1]
        ledger, known = state.deferred(*AT), state.partition(*AT)
        start = known.next if known is not None else Offset(0)
        offsets = list(range(start, start + 10))
        columns = {name: [0] * 10 for name in ("partition", "timestamp_ms")}
        rows = raw_rows(**columns, offset=offsets, key=[b"A"] * 10, value=[b"v"] * 10)
        section = Section(*AT, start, Offset(start + 10), 10, ledger[-1].raw_file if ledger else None)
        name = files.write({AT[0]: rows}, [section], 1_764_088_369_000).name
        entry = LedgerEntry(*AT, start, section.end, ("A",), 3, "load", 10, raw_file=name)
        span = Span(start, section.end, ledger=ledger, deferred=(entry,))
        done = lake.writer.commit(Claim(OWNER.cluster_id, {AT[0]: TopicId("id")}, {AT: span}, "b"), [])
        assert isinstance(done, Committed)
        return name

    def test_what_is_owed_from_them_outlives_expiry_and_the_hunt_for_orphans(self, lake: Maintained) -> None:
        table = lake.writer.load()[0]
        files = RawFiles(table.io, table.location())
        names = [self.defer(lake, files) for _ in range(3)]
        litter = f"{table.location()}/data/litter.parquet"
        with table.io.new_output(litter).create() as stream:
            stream.write(b"x")
        lake.maintain()
        assert table.io.new_input(litter).exists()  # it may be of a commit that is on its way
        lake.age(days=2)
        lake.maintain()
        assert not table.io.new_input(litter).exists()
        head = lake.writer.load()[0]
        assert len(head.snapshots()) == 1
        assert files.names() == sorted(names)
        assert named(head, files) == set(names)


class TestMeanwhile:
    def test_a_sink_that_goes_on_loses_nothing_and_does_not_end(
        self, kafka: LocalKafka, trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3, tmp_path: Path
    ) -> None:
        with maintained(trino, postgres, s3) as lake:
            work = SinkWorkspace(
                kafka.bootstrap_servers,
                tmp_path,
                namespace="market",
                lake=lake.environment,
                spec={"degradation": {"mode": "Off"}},
            )
            trades = make_trades(12_000, seed=1)
            sink = work.start(K2_SINK_CHECK_EVERY_S="0.5")
            rewrites: list[Task] = []

            def feed() -> int:
                for end in range(300, len(trades) + 1, 300):  # each part is a commit of its own
                    work.produce(trades[end - 300 : end])
                    wait_until(partial(reached, end), "the commit")
                    wait_until(looked_at, "the sink to look at what it wrote, without which nothing is rewritten")
                    if end >= 3_000 and rewrites:
                        break
                return end

            def reached(end: int) -> bool:
                return work.committed() >= end

            def looked_at() -> bool:
                with lake.upkeep() as upkeep:
                    return not upkeep.plan().waiting

            try:
                with ThreadPoolExecutor(1) as pool:
                    fed = pool.submit(feed)
                    while not fed.done():
                        done = [one.task for one in lake.maintain()]
                        rewrites += [one for one in done if (one.table, one.action) == ("trades", Action.OPTIMIZE)]
                    end = fed.result()
                assert sink.terminate() == 0, sink.log.read_text()
            finally:
                work.close()
            assert rewrites
            work.check(trades[:end])


class TestWhatFails:
    def test_a_user_without_the_right_is_told_of_each_kind_once(self, lake: Maintained) -> None:
        lake.commit(10, 1)
        lake.commit(10, 2)
        lake.look()
        with lake.upkeep(user=OUTSIDER) as upkeep:
            outcomes = list(upkeep.carry_out(upkeep.plan()))
        assert {type(one.error) for one in outcomes} == {EngineError}
        assert {one.attempts for one in outcomes} == {1}
        assert [one.task.action for one in outcomes if one.task.table == "trades"] == list(Action)
        assert outcomes[0].after is None
        assert "Access Denied" in str(outcomes[0].as_json()["error"])

    def test_a_trino_that_is_away_is_asked_again_and_then_left(self, lake: Maintained, tmp_path: Path) -> None:
        lake.commit(10, 1)
        slept: list[float] = []
        url = f"http://127.0.0.1:{ports.find_free(str(tmp_path))}"
        with lake.upkeep(url=url, sleep=slept.append) as upkeep:
            first, _ = upkeep.carry_out(upkeep.plan())
        assert isinstance(first.error, EngineUnavailableError)
        assert first.attempts == ATTEMPTS
        assert len(slept) == 2 * (ATTEMPTS - 1)

    def test_days_after_one_that_failed_are_not_tried(self, lake: Maintained) -> None:
        for seed in range(2):
            lake.commit(10, seed)
        lake.look()
        with lake.upkeep(user=OUTSIDER) as upkeep:
            plan = upkeep.plan()
            twice = type(plan)((plan.tasks[0], *plan.tasks))
            outcomes = [one for one in upkeep.carry_out(twice) if one.task.table == "trades"]
        assert [one.task.action for one in outcomes] == list(Action)

    def test_a_table_that_goes_meanwhile_is_what_trino_says(self, lake: Maintained) -> None:
        lake.commit(10, 1)
        with lake.upkeep() as upkeep:
            plan = upkeep.plan()
            lake.catalog.drop_table(("market", TRADES.name))
            [first, *_] = upkeep.carry_out(plan)
        assert isinstance(first.error, EngineError)
        assert first.before.files == 0


def test_a_pipeline_without_tables_has_nothing_to_maintain(
    trino: LocalTrino, postgres: LocalPostgres, s3: LocalS3
) -> None:
    with maintained(trino, postgres, s3) as lake:
        assert lake.maintain() == []
