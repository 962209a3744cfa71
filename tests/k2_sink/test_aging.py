"""Rows that are too old leave real tables: exactly they, by whole days, and the books balance at each snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError, StorageUnavailableError
from k2_core.state import CommitState, TopicState
from k2_core.tables import open_catalog
from k2_core.types import Level, Partition, TopicId
from k2_sink.aging import AGED_KEY, files_before
from k2_sink.commit import Recovery, recover
from k2_sink.projection import CATCH_UP_SHARE
from support.aging import EVERY_S, TOPIC, Aged, day, noon_s
from support.committing import Faulty
from support.records import make_trades
from support.sink import SinkWorkspace
from support.waiting import wait_until


@pytest.fixture
def aged(lake: ServiceSettings) -> Iterator[Aged]:
    with Aged.where(lake) as aged:
        yield aged


def days(aged: Aged, count: int) -> None:
    for number in range(count):
        aged.commit(number, partition=number % 2)
    aged.now_s = noon_s(count - 1)


def counts(aged: Aged) -> dict[int, int]:
    return {int(at): one.aged for at, one in aged.state().topics[TOPIC].partitions.items()}


def test_whole_days_leave_and_nothing_else(aged: Aged) -> None:
    days(aged, 5)
    before = aged.state()
    assert aged.aging(keep_days=2).step(Level.NORMAL) == 80
    assert aged.held() == aged.since(2)
    assert counts(aged) == {0: 40, 1: 40}
    found = {at: (one.next, one.origin) for at, one in aged.state().topics[TOPIC].partitions.items()}
    assert found == {at: (one.next, one.origin) for at, one in before.topics[TOPIC].partitions.items()}
    table, _ = aged.writer.load()
    head = table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary.additional_properties[AGED_KEY] == day(2).isoformat()


def test_sinks_go_on_from_it(aged: Aged) -> None:
    """One that had the head before loses nothing, and what comes late of a day that is over leaves the next time."""
    days(aged, 3)
    other = aged.another(aged.catalog)
    assert aged.aging(keep_days=1, writer=other).step(Level.NORMAL) == 40
    aged.commit(3)
    aged.commit(0, symbols=("LATEUSDT",), partition=1)
    assert aged.held().keys() == aged.since(1).keys() | {one["message_id"] for one in aged.trades[-40:]}
    assert aged.aging(keep_days=1, writer=other).step(Level.NORMAL) == 40
    assert aged.held() == aged.since(1)
    assert counts(aged) == {0: 40, 1: 40}


def test_files_that_the_library_does_not_find_stay_for_now(aged: Aged) -> None:
    days(aged, 3)
    gone = files_before(aged.writer.load()[0], day(2), 99)
    assert aged.aging(keep_days=1).step(Level.NORMAL) == 40
    table, state = aged.writer.load()
    assert not aged.writer.let_go(table, gone, state, {})
    assert aged.writer.load()[0].current_snapshot() == table.current_snapshot()
    assert aged.held() == aged.since(1)


def test_nothing_is_done_before_its_time(aged: Aged) -> None:
    days(aged, 3)
    aging = aged.aging(keep_days=2)
    head = aged.writer.load()[0].current_snapshot()
    assert aging.step(Level.SOFT) == 0  # a level puts it off
    assert aging.step(Level.NORMAL) == 0  # nothing is old enough
    aged.now_s = noon_s(3)
    aging.turns.due(Level.NORMAL)
    assert aging.step(Level.NORMAL) == 0  # not due
    assert aged.writer.load()[0].current_snapshot() == head
    aged.now_s += EVERY_S
    assert aging.step(Level.NORMAL) == 40
    assert aged.held() == aged.since(1)


def test_an_empty_table(aged: Aged) -> None:
    assert aged.aging(keep_days=1).step(Level.NORMAL) == 0


@pytest.mark.parametrize("files", [1, 3])
def test_many_files_leave_little_by_little_the_oldest_first(aged: Aged, files: int) -> None:
    days(aged, 4)  # two files each
    aging = aged.aging(keep_days=1, files=files)
    first_days = []
    while len(aged.held()) > 80:
        before = aged.held()
        assert aging.step(Level.NORMAL) == len(before) - len(aged.held()) > 0
        first_days.append(min(one["exchange_timestamp"].date() for one in aged.held().values()))
        aged.now_s += EVERY_S * CATCH_UP_SHARE
    assert first_days == {1: [day(0), day(1), day(1), day(2)], 3: [day(1), day(2)]}[files]
    assert aging.step(Level.NORMAL) == 0
    assert aged.held() == aged.since(2)


def test_a_commit_over_midnight_leaves_in_two_parts(aged: Aged) -> None:
    midnight = datetime(2026, 1, 6, tzinfo=UTC)
    trades = make_trades(60, symbols=("BTCUSDT",), start=midnight - timedelta(minutes=1), step=timedelta(seconds=4))
    aged.commit_rows(trades, [0] * 60)
    aged.commit(2)
    aged.now_s = noon_s(2)
    aging = aged.aging(keep_days=1)
    first = len(aged.trades) - len(aged.since(1))
    assert 0 < first < 60
    assert aging.step(Level.NORMAL) == first
    assert aged.held() == aged.since(1)
    aged.now_s = noon_s(3)
    assert aging.step(Level.NORMAL) == 60 - first
    assert aged.held() == aged.since(2)


def test_rows_of_several_partitions_in_one_file_are_counted_apart(aged: Aged) -> None:
    """A bucket of symbols is a file, and its symbols come from several partitions of the log."""
    trades = make_trades(90, symbols=("BTCUSDT",), seed=3, start=datetime(2026, 1, 5, tzinfo=UTC))
    aged.commit_rows(trades, [number % 3 for number in range(90)])
    aged.commit(1)
    aged.now_s = noon_s(2)
    assert aged.aging(keep_days=1).step(Level.NORMAL) == 90
    assert aged.held() == aged.since(1)
    assert counts(aged) == {0: 30, 1: 30, 2: 30}


def test_rows_of_a_topic_that_was_made_again_are_counted_to_the_one_they_came_from(aged: Aged) -> None:
    aged.commit(0)
    table, state = aged.writer.load()
    (topic,) = state.topics.values()
    again = CommitState("cluster", {TOPIC: TopicState(TopicId("again"), {}, {topic.id: topic.partitions})}, epoch=1)
    recover(table, Recovery(again, "uid", {}))
    aged.topic_id, aged.epoch, aged.ends = TopicId("again"), 1, {}
    trades = make_trades(20, symbols=("BTCUSDT",), seed=9, first_id=5_000, start=datetime(2026, 1, 5, tzinfo=UTC))
    aged.commit_rows(trades, [0] * 20)
    aged.commit(1)
    aged.now_s = noon_s(2)
    assert aged.aging(keep_days=1).step(Level.NORMAL) == 60
    assert aged.held() == aged.since(1)
    found = aged.state().topics[TOPIC]
    assert found.former[TopicId("topic")][Partition(0)].aged == 40
    assert found.partitions[Partition(0)].aged == 20


def test_another_commit_in_between(aged: Aged) -> None:
    days(aged, 3)
    faulty = Faulty(open_catalog(aged.settings))
    other = aged.another(faulty.catalog)
    aging = aged.aging(keep_days=1, writer=other)
    faulty.before.append(lambda: aged.commit(3))
    assert aging.step(Level.NORMAL) == 0
    assert aged.held() == aged.since(0)
    assert other.failures == {"conflict": 1}
    aged.now_s += EVERY_S * CATCH_UP_SHARE
    assert aging.step(Level.NORMAL) == 40
    assert aged.held() == aged.since(1)
    faulty.catalog.close()


def test_an_answer_that_was_lost(aged: Aged) -> None:
    """It had landed: the next look finds nothing to do, and nothing is counted twice."""
    days(aged, 3)
    faulty = Faulty(open_catalog(aged.settings))
    other = aged.another(faulty.catalog)
    aging = aged.aging(keep_days=1, writer=other)
    faulty.after.append(faulty.lose_the_answer)
    with pytest.raises(CatalogUnavailableError):
        aging.step(Level.NORMAL)
    aged.now_s += EVERY_S
    assert aging.step(Level.NORMAL) == 0
    assert aged.held() == aged.since(1)
    assert counts(aged) == {0: 40, 1: 0}
    faulty.catalog.close()


def test_a_table_that_is_not_partitioned_by_day_keeps_all(aged: Aged) -> None:
    """Nobody else's files are of one day alone, so that none of them may go."""
    days(aged, 2)
    table, _ = aged.writer.load()
    with table.update_spec() as update:
        update.remove_field("event_day")
    days(aged, 4)
    found = files_before(aged.writer.load()[0], day(9), 500)
    assert {file.spec_id for file in found} == {0}
    assert sum(file.record_count for file in found) == 80


def test_a_file_that_cannot_be_read_keeps_the_rows(aged: Aged) -> None:
    trades = make_trades(20, symbols=("BTCUSDT",), seed=3, start=datetime(2026, 1, 5, tzinfo=UTC))
    aged.commit_rows(trades, [number % 2 for number in range(20)])
    aged.commit(1)
    aged.now_s = noon_s(2)
    table, _ = aged.writer.load()
    (file, *_) = files_before(table, day(1), 500)
    kept = table.io.new_input(file.file_path).open().read()
    table.io.delete(file.file_path)
    aging = aged.aging(keep_days=1)
    with pytest.raises(StorageUnavailableError):
        aging.step(Level.NORMAL)
    with table.io.new_output(file.file_path).create() as again:
        again.write(kept)
    assert aged.held() == aged.since(0)


@pytest.mark.kafka
def test_a_sink_keeps_the_days_that_it_is_told_to(work: SinkWorkspace) -> None:
    today = datetime.now(UTC)
    old = make_trades(60, symbols=("BTCUSDT",), seed=1, start=today - timedelta(days=5))
    new = make_trades(50, symbols=("BTCUSDT",), seed=2, first_id=1_000, start=today - timedelta(minutes=1))
    catalog = {"type": "sql", "uriSecret": {"name": "catalog", "key": "uri"}}
    work.spec = {"storage": {"catalog": catalog, "warehouse": "file:///lake", "retentionDays": 2}}
    work.produce([*old, *new])
    sink = work.start(K2_SINK_AGE_EVERY_S="0.2")
    sink.wait_said("rows left the table")
    wait_until(lambda: sink.metric("k2_sink_aged_rows_total") == 60, "all old rows to have left")
    later = make_trades(10, symbols=("BTCUSDT",), seed=3, first_id=2_000, start=today)
    work.produce(later)
    wait_until(lambda: work.committed() == 120, "the later trades to be committed")
    assert sink.terminate() == 0
    work.check([*new, *later], aged=60)
    work.check_every_snapshot()
