"""The books of real tables: they balance whatever K2 does, and do not once somebody else removes rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k2_core.state import STATE_KEY, LedgerEntry, PartitionState
from k2_core.types import Level, Offset, Partition, TopicId
from k2_sink.aging import AGED_KEY
from k2_sink.books import Books, BooksCollector, books_of
from k2_sink.commit import Recovery, TableWriter, recover
from support.aging import TOPIC, Aged, noon_s
from support.lake import lake_settings
from support.records import make_trades


@pytest.fixture
def aged(tmp_path: Path) -> Iterator[Aged]:
    with Aged.where(lake_settings(tmp_path)) as aged:
        yield aged


def books(aged: Aged) -> Books:
    found = books_of(aged.writer.load()[0].metadata)
    assert found is not None
    return found


def scraped(writer: TableWriter | None) -> dict[str, float]:
    registry, collector = CollectorRegistry(), BooksCollector()
    registry.register(collector)
    if writer is not None:
        collector.watch(writer)
    return {
        sample.labels.get("account", "passed"): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_rows_alone(aged: Aged) -> None:
    for number in range(3):
        aged.commit(number, partition=number % 2)
    assert books(aged) == Books(120, Counter(rows=120))
    assert books(aged).balanced


def test_every_account_has_its_part(aged: Aged) -> None:
    """Of a topic that was made again too."""
    aged.commit(0)
    table, state = aged.writer.load()
    topic = state.topics[TOPIC]
    known = topic.partitions[Partition(0)]
    counts = {"duplicates": 1, "dead_letters": 2, "markers": 3, "lost": 4, "unexplained": 5}
    left_out = PartitionState(Offset(known.next + 15), known.origin, **counts)
    entry = LedgerEntry(TOPIC, Partition(1), Offset(0), Offset(9), ("X",), 2, "test", 6)
    topics = {
        TOPIC: replace(
            topic,
            id=TopicId("again"),
            partitions={Partition(1): replace(known, next=Offset(6), origin=Offset(0))},
            former={topic.id: {Partition(0): left_out}},
        )
    }
    recover(table, Recovery(replace(state, topics=topics, open_ledger=(entry,), epoch=1), "uid", {}))
    assert books(aged) == Books(61, Counter({**counts, "rows": 40, "deferred": 6}))
    assert books(aged).balanced


def test_rows_that_left_for_their_age(aged: Aged) -> None:
    aged.commit(0)
    aged.commit(1)
    aged.now_s = noon_s(2)
    assert aged.aging(keep_days=1).step(Level.NORMAL) == 40
    head = aged.writer.load()[0].current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert AGED_KEY in head.summary.additional_properties
    assert books(aged) == Books(80, Counter(rows=40, aged=40))


def test_somebody_elses_delete_is_seen(aged: Aged) -> None:
    aged.commit_rows(make_trades(30, symbols=("BTCUSDT",)), [0] * 30)
    table, _ = aged.writer.load()
    table.delete("message_id = 'binance:spot:BTCUSDT:7'")
    assert books(aged) == Books(30, Counter(rows=29))
    assert not books(aged).balanced


def test_a_scrape_has_both_sides(aged: Aged) -> None:
    aged.commit(0)
    accounts = dict.fromkeys(("duplicates", "dead_letters", "markers", "lost", "unexplained", "aged", "deferred"), 0.0)
    assert scraped(aged.writer) == {"passed": 40, "rows": 40} | accounts


def test_what_is_not_known_is_not_said(aged: Aged) -> None:
    assert scraped(None) == {}
    assert scraped(aged.writer) == {}  # nothing was committed
    aged.commit(0)
    with aged.writer.table.transaction() as transaction:
        transaction.set_properties({STATE_KEY: "garbage"})
    assert scraped(aged.writer) == {}
