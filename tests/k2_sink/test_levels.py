"""What the sink does at each level, on a real Kafka and a real table: what waits comes back, once and exactly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.topics import partition_of
from k2_core.types import Symbol
from support.lake import committed_state, table_rows
from support.records import Record, encode, make_trades
from support.sink import SinkProcess, SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.levels]
LOW, NORMAL, CRITICAL = "DOGEUSDT", "ETHUSDT", "BTCUSDT"
UNNAMED = "NEWUSDT"
SYMBOLS = (LOW, NORMAL, CRITICAL, UNNAMED)


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    priorities = {LOW: "low", NORMAL: "normal", CRITICAL: "critical"}
    workspace = SinkWorkspace(kafka.bootstrap_servers, tmp_path, priorities=priorities)
    workspace.set_level(0)
    yield workspace
    workspace.close()


class Feed:
    """Trades without end, produced from a thread a slice at a time."""

    def __init__(self, work: SinkWorkspace, seed: int) -> None:
        self._work = work
        self._seed = seed
        self.trades: list[Record] = []
        """What was produced."""

    @property
    def sent(self) -> int:
        """How many that are."""
        return len(self.trades)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Produce until the end of the block."""
        stop = threading.Event()

        def produce() -> None:
            while not stop.wait(0.02):
                first_id = 1 + self.sent
                more = make_trades(40, symbols=SYMBOLS, seed=self._seed + first_id, first_id=first_id)
                self._work.produce(more)
                self.trades += more

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def symbols_since(work: SinkWorkspace, before: dict[str, int]) -> set[str]:
    """Return the symbols of which the table has more rows than it had."""
    return {symbol for symbol, count in rows_by_symbol(work).items() if count > before.get(symbol, 0)}


def rows_by_symbol(work: SinkWorkspace) -> dict[str, int]:
    counts = table_rows(work.settings, work.namespace).column("symbol").value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in counts}


def reached(work: SinkWorkspace, sink: SinkProcess, level: int) -> dict[str, int]:
    """Set a level, wait until the sink acts on it and has committed what it had, and return its rows by symbol."""
    work.set_level(level)
    wait_until(lambda: sink.metric("k2_degradation_level") == level, f"level {level}")
    commits = sink.metric("k2_sink_commits_total")
    if level < 4:  # what was read before the change is in the next commit
        wait_until(lambda: sink.metric("k2_sink_commits_total") > commits, "the commit across the change")
    return rows_by_symbol(work)


def commits_on(work: SinkWorkspace, count: int = 2) -> None:
    """Wait for some commits that take in more of the log."""
    for _ in range(count):
        work.wait_committed(work.committed() + 1)


def test_through_all_levels_and_back_everything_comes_in_once(work: SinkWorkspace) -> None:
    feed, sink = Feed(work, 21), work.start()
    with feed.running():
        wait_until(lambda: set(rows_by_symbol(work)) == set(SYMBOLS), "all symbols at level 0")
        before = reached(work, sink, 2)
        commits_on(work)
        assert symbols_since(work, before) == {NORMAL, CRITICAL, UNNAMED}
        before = reached(work, sink, 3)
        commits_on(work)
        assert symbols_since(work, before) == {CRITICAL}
        wait_until(lambda: sink.metric("k2_sink_ledger_open_records") > 0, "the figure of what is owed")
        assert sink.metric("k2_sink_ledger_oldest_seconds") > 0

        reached(work, sink, 4)
        read = sink.metric("k2_sink_records_read_total")
        wait_until(lambda: work.committed() == read, "what was read to be committed")
        stands = work.committed()
        sent = feed.sent
        wait_until(lambda: feed.sent > sent + 400, "the log to grow while the sink stands still")
        assert (work.committed(), sink.metric("k2_sink_records_read_total")) == (stands, read)
        assert sink.metric("k2_sink_owned_partitions") == work.partitions

        before = reached(work, sink, 3)
        commits_on(work)
        assert symbols_since(work, before) == {CRITICAL}
        work.set_level(0)
        wait_until(lambda: work.owed() == 0, "the ledger to be empty while the feed goes on")
    assert sink.terminate() == 0
    work.check(feed.trades)
    assert work.check_every_snapshot() > 4
    assert sink.said("drained")
    assert not sink.said("drain dropped")
    state = committed_state(work.settings, work.namespace)
    assert state is not None
    assert state.open_ledger == ()


def test_the_ledger_stays_small_however_many_commits_defer(work: SinkWorkspace) -> None:
    work.set_level(3)
    feed, sink = Feed(work, 22), work.start()
    with feed.running():
        commits_on(work, 5)
    assert sink.terminate() == 0
    state = committed_state(work.settings, work.namespace)
    assert state is not None
    by_partition = {entry.partition: entry for entry in state.open_ledger}
    assert len(by_partition) == len(state.open_ledger)
    named = {symbol for entry in state.open_ledger for symbol in entry.symbols}
    assert named == {LOW, NORMAL, UNNAMED}
    work.set_level(0)
    work.run_to_end()
    work.check(feed.trades)
    assert work.check_every_snapshot() > 4


def test_what_no_ledger_can_name_never_waits(work: SinkWorkspace) -> None:
    work.set_level(3)
    trades = make_trades(40, symbols=(NORMAL,), seed=23)
    for number, trade in enumerate(trades):
        key = (None, b"\xff\xfe", b"", b"K" * 65)[number % 4]
        work.produce_value(encode(trade), int(partition_of(Symbol(NORMAL), work.partitions)), key)
    assert work.producer.flush(30) == 0
    work.run_to_end()
    work.check(trades)
    assert work.owed() == 0


def test_bad_records_and_repeated_ones_wait_and_are_then_accounted_for(work: SinkWorkspace) -> None:
    work.set_level(3)
    trades = make_trades(300, symbols=(NORMAL, CRITICAL), seed=24)
    work.produce(trades)
    partition = int(partition_of(Symbol(NORMAL), work.partitions))
    work.produce_value(b"no record", partition, NORMAL.encode())
    work.produce(trades[:50])
    sink = work.start()
    wait_until(lambda: work.committed() == 351, "all to be passed")
    owed = sum(trade["symbol"] == NORMAL for trade in trades + trades[:50]) + 1
    assert work.owed() == owed
    work.set_level(1)
    wait_until(lambda: work.owed() == 0, "the ledger to be empty")
    wait_until(lambda: sink.metric("k2_sink_drained_records_total") == owed, "the figure to follow")
    assert sink.metric("k2_sink_deferred_records_total") == owed
    assert sink.terminate() == 0
    work.check(trades, duplicates=50, dead_letters=1)
    work.check_every_snapshot()


def test_at_level_four_it_stays_in_its_group_and_stops_when_it_is_told_to(work: SinkWorkspace) -> None:
    work.set_level(4)
    first, second = work.start(), work.start()
    for sink in (first, second):
        sink.wait_owned(2)
    trades = make_trades(400, symbols=SYMBOLS, seed=25)
    work.produce(trades)
    second.kill()
    wait_until(lambda: first.metric("k2_sink_owned_partitions") == 4, "the others' partitions")
    assert first.metric("k2_sink_records_read_total") == 0
    begun = time.monotonic()
    assert first.terminate() == 0
    assert time.monotonic() - begun < 20  # it does not wait for an end that it does not read to
    assert work.committed() == 0
    work.set_level(0)
    work.run_to_end()
    work.check(trades)
