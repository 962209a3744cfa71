"""The table `ledger` on real tables: it adds up to what is owed, whatever sinks, levels, drains and people do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import StateError
from k2_core.ledger_history import CHANGES, LEDGER, TOLD_KEY, Told
from k2_core.state import CommitState, LedgerEntry
from k2_core.tables import ensure_table, load_table, open_catalog
from k2_core.types import Level, Offset, Partition, TopicId
from k2_sink.commit import Committed, Recovery, recover
from k2_sink.ledger import Paid
from k2_sink.ledger_history import LedgerHistory
from k2_sink.projection import CATCH_UP_SHARE
from k2_sink.protocol import Claim, Drained, Repayment, Span
from support.lake import lake_settings
from support.ledger import adds_up_to, open_ledger
from support.projections import AT, EVERY_S, UID, Derived
from support.records import Record, make_trades
from support.recovery import Recovered
from support.waiting import wait_until


@dataclass
class World(Derived):
    """A trades table whose commits defer and pay, its history, and those who tell it at a time of the test's own."""

    @property
    def state(self) -> CommitState:
        """The state of the head."""
        return self.writer.load()[1]

    def defer(self, *symbols: str) -> None:
        """Commit 10 more offsets, and a record of each symbol that waits."""
        state = self.state
        known = state.partition(*AT)
        start = known.next if known is not None else Offset(0)
        waits = LedgerEntry(*AT, start, Offset(start + 10), symbols, 2, "level 2", len(symbols), 1_000, 500)
        span = Span(start, Offset(start + 10), ledger=state.deferred(*AT), deferred=(waits,) if symbols else ())
        claim = Claim("cluster", {AT[0]: TopicId("id")}, {AT: span}, f"b{start}", state.epoch)
        assert isinstance(self.writer.commit(claim, []), Committed)

    def pay(self, up_to: int | None = None) -> None:
        """Commit what a drain takes of the oldest entry: all of it, or what lies before an offset."""
        state = self.state
        entry = state.open_ledger[0]
        paid = Paid(entry, entry.end, entry.records) if up_to is None else Paid(entry, Offset(up_to), 1)
        known = state.partition(*AT)
        assert known is not None
        part = Drained(known.next, state.deferred(*AT), (paid,))
        ids = {AT[0]: TopicId("id")}
        assert isinstance(
            self.writer.commit(Repayment("cluster", ids, {AT: part}, "drain", state.epoch), []), Committed
        )

    def history(self, most: int = 500, catalog: Catalog | None = None) -> LedgerHistory:
        """Return one more that tells; it is due at once."""
        turns = self.due()
        return LedgerHistory(self.tables(catalog), self.metrics, turns, most)

    def rows(self) -> pa.Table:
        """Return the whole history."""
        table = load_table(self.catalog, "market", LEDGER)
        return CHANGES.empty_table() if table is None else table.scan().to_arrow().cast(CHANGES)

    def expire(self, *sequence_numbers: int) -> None:
        """Remove these snapshots from the metadata."""
        table, _ = self.writer.load()
        ids = [one.snapshot_id for one in table.metadata.snapshots if one.sequence_number in sequence_numbers]
        assert len(ids) == len(sequence_numbers)
        table.maintenance.expire_snapshots().by_ids(ids).commit()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.in_folder(tmp_path) as world:
        yield world


def test_what_levels_put_off_and_drains_bring_in_adds_up_to_what_is_owed(world: World) -> None:
    history = world.history()
    world.defer("A", "B")
    world.defer("C")
    assert history.step(Level.NORMAL) == 2
    assert adds_up_to(world.rows(), world.state)
    assert history.step(Level.NORMAL) == 0  # not due
    world.pay(up_to=5)
    world.defer()
    world.pay()
    world.now_s += EVERY_S
    assert history.step(Level.NORMAL) == 3
    assert adds_up_to(world.rows(), world.state)
    assert open_ledger(world.rows()) == Counter(world.state.open_ledger)
    assert [(entry.symbols, entry.records) for entry in world.state.open_ledger] == [(("C",), 1)]
    assert Counter(world.rows().column("event").to_pylist()) == {"deferred": 2, "paid": 3}
    assert world.metrics.projected.labels("ledger")._value.get() == 5


def test_nothing_new_is_no_commit_and_no_change_no_snapshot(world: World) -> None:
    history = world.history()
    assert history.step(Level.NORMAL) == 0
    assert load_table(world.catalog, "market", LEDGER) is None  # there are no trades
    world.defer()
    world.now_s += EVERY_S
    assert history.step(Level.NORMAL) == 0
    table = load_table(world.catalog, "market", LEDGER)
    assert table is not None
    assert table.current_snapshot() is None
    world.now_s += EVERY_S
    assert history.step(Level.NORMAL) == 0
    again = load_table(world.catalog, "market", LEDGER)
    assert again is not None
    assert again.metadata_location == table.metadata_location


@pytest.mark.parametrize("level", [level for level in Level if level > Level.NORMAL])
def test_a_level_puts_it_off(world: World, level: Level) -> None:
    history = world.history()
    world.defer("A")
    assert history.step(level) == 0
    assert world.rows().num_rows == 0
    assert history.step(Level.NORMAL) == 1


def test_who_comes_after_one_that_died_goes_on_from_the_table(world: World) -> None:
    world.defer("A")
    assert world.history().step(Level.NORMAL) == 1
    world.defer("B")
    assert world.history().step(Level.NORMAL) == 1
    assert adds_up_to(world.rows(), world.state)


def test_more_than_a_turn_takes_is_caught_up_with(world: World) -> None:
    history = world.history(most=2)
    for symbol in "ABCDE":
        world.defer(symbol)
    steps = []
    for _ in range(4):
        steps.append(history.step(Level.NORMAL))
        world.now_s += EVERY_S * CATCH_UP_SHARE
    assert steps == [2, 2, 1, 0]
    assert adds_up_to(world.rows(), world.state)


def test_snapshots_that_expired_before_they_were_told_are_said(world: World) -> None:
    history = world.history()
    for symbol in "ABCDE":
        world.defer(symbol)
    world.pay()
    world.expire(2, 3)
    assert history.step(Level.NORMAL) == 7
    unseen = [row for row in world.rows().to_pylist() if row["event"] == "unseen"]
    assert {(row["from_sequence_number"], row["sequence_number"]) for row in unseen} == {(2, 4)}
    assert [row["account"] for row in unseen].count(None) == 1
    assert adds_up_to(world.rows(), world.state)


def test_snapshots_that_expire_after_they_were_told_are_not_missed(world: World) -> None:
    history = world.history()
    for symbol in "ABC":
        world.defer(symbol)
    assert history.step(Level.NORMAL) == 3
    world.pay()
    world.expire(1, 2, 3)
    world.now_s += EVERY_S
    assert history.step(Level.NORMAL) == 1
    assert "unseen" not in world.rows().column("event").to_pylist()
    assert adds_up_to(world.rows(), world.state)


def test_a_recovery_says_what_it_changed(world: World) -> None:
    world.defer("A")
    table, old = world.writer.load()
    first = table.current_snapshot()
    assert first is not None
    world.defer("B")
    world.pay()
    history = world.history()
    assert history.step(Level.NORMAL) == 3
    back = replace(old, epoch=1, batch_id="back")
    recover(world.writer.load()[0], Recovery(back, UID, {"k2.recovery": "rollback"}))
    world.now_s += EVERY_S
    assert history.step(Level.NORMAL) == 2
    assert adds_up_to(world.rows(), old)
    said = [(row["event"], row["symbols"], row["change"]) for row in world.rows().to_pylist()]
    assert sorted(said)[-2:] == [("rolled_back", ["A"], 1), ("rolled_back", ["B"], -1)]


def test_of_two_that_tell_at_once_one_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.defer("A")
    ensure_table(world.catalog, "market", LEDGER, UID)
    with closing(open_catalog(lake_settings(world.folder))) as other:
        late = world.history(catalog=other)
        first = world.history()
        commit = other.commit_table

        def commit_late(*arguments: Any) -> Any:
            monkeypatch.setattr(other, "commit_table", commit)
            assert first.step(Level.NORMAL) == 1
            return commit(*arguments)

        monkeypatch.setattr(other, "commit_table", commit_late)
        assert late.step(Level.NORMAL) == 0
    assert adds_up_to(world.rows(), world.state)


def test_a_table_that_was_made_again_owes_what_it_owes(world: World) -> None:
    world.defer("A")
    assert world.history().step(Level.NORMAL) == 1
    world.catalog.drop_table("market.trades")
    again = World(world.folder, world.catalog, now_s=world.now_s)
    assert again.history().step(Level.NORMAL) == 0
    again.defer("B")
    assert again.history().step(Level.NORMAL) == 3
    assert adds_up_to(again.rows(), again.state)


def test_another_pipelines_table_is_not_written_to(world: World) -> None:
    ensure_table(world.catalog, "market", LEDGER, "other")
    world.defer("A")
    with pytest.raises(StateError, match="table ledger: found it to be of pipeline other, expected uid"):
        world.history().step(Level.NORMAL)
    assert world.rows().num_rows == 0


def test_a_property_that_is_none_of_ours_is_refused(world: World) -> None:
    with ensure_table(world.catalog, "market", LEDGER, UID).transaction() as transaction:
        transaction.set_properties({TOLD_KEY: "yes"})
    world.defer("A")
    with pytest.raises(StateError, match=r"k2\.told: found 'yes'"):
        world.history().step(Level.NORMAL)


SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOGEUSDT")


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recovered]:
    workspace = Recovered(kafka.bootstrap_servers, tmp_path)
    workspace.priorities = dict(zip(SYMBOLS, ("critical", "normal", "low"), strict=True))
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    yield workspace
    workspace.close()


def told(work: Recovered) -> pa.Table:
    """Return the history once it goes up to the head."""
    with closing(open_catalog(work.settings)) as catalog:

        def reached() -> bool:
            table, head = load_table(catalog, work.namespace, LEDGER), work.table.current_snapshot()
            assert head is not None
            return table is not None and Told.of(table.properties).sequence_number == head.sequence_number

        wait_until(reached, "the history to be told up to the head")
        table = load_table(catalog, work.namespace, LEDGER)
        assert table is not None
        return table.scan().to_arrow().cast(CHANGES)


def commit_at(work: Recovered, level: int, trades: list[Record]) -> None:
    """Let a sink take trades in at a level, and what the log has before them, and kill it."""
    work.set_level(level)
    work.produce(trades)
    ends = work.admin.stable_ends(work.topic, [Partition(number) for number in range(work.partitions)])
    sink = work.start(K2_SINK_PROJECT_EVERY_S="0.2")
    wait_until(lambda: work.committed() == sum(ends.values()), f"all to be passed at level {level}")
    sink.kill()


@pytest.mark.kafka
def test_raw_levels_drains_a_rollback_and_an_accepted_loss_add_up(work: Recovered) -> None:
    """The judge is the commit state of the head; what sinks that are killed leave is told by those that follow."""
    first = make_trades(300, symbols=SYMBOLS, seed=91)
    second, third = (make_trades(300, symbols=SYMBOLS, seed=seed, first_id=1_000 * seed) for seed in (92, 93))
    commit_at(work, 3, first)
    owing = work.table.current_snapshot()
    assert owing is not None
    assert work.owed() == sum(trade["symbol"] != "BTCUSDT" for trade in first)
    assert {entry.raw_file is None for entry in work.state.open_ledger} == {False}
    commit_at(work, 3, second)
    work.set_level(0)
    sink = work.start(K2_SINK_PROJECT_EVERY_S="0.2")
    wait_until(lambda: work.owed() == 0, "the drain")
    assert adds_up_to(told(work), work.state)
    assert sink.terminate() == 0

    answer = work.command("rollback", "--to", owing.snapshot_id, "--yes")
    assert answer.code == 0, answer.err
    commit_at(work, 2, third)
    work.trim_to_table()
    lost = sum(entry.records for entry in work.state.open_ledger if entry.raw_file is None)
    assert lost > 0
    answer = work.command("adopt-topic", work.topic, "--yes", "--reason", "by mistake")
    assert answer.code == 0, answer.err
    assert work.owed() > 0
    assert work.state.losses
    work.set_level(1)
    assert work.run_to_end()
    work.set_level(0)
    sink = work.start(K2_SINK_PROJECT_EVERY_S="0.2")
    rows = told(work)
    assert adds_up_to(rows, work.state)
    assert sink.terminate() == 0
    assert set(rows.column("event").to_pylist()) >= {"deferred", "paid", "rolled_back", "lost"}
    off = [row for row in rows.to_pylist() if row["event"] == "lost" and row["account"] == "owed"]
    assert sum(row["owed_records"] for row in off) == -lost
    assert "unseen" not in rows.column("event").to_pylist()
