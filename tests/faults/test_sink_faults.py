"""The sink while things break: killed, doubled, stopped and woken, without a disk, a catalog or a broker."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import SetupError
from k2_core.ledger_history import LEDGER, Told
from k2_core.letters import DLQ
from k2_core.records import TRADES, TableForm
from k2_core.tables import load_table, open_catalog
from k2_core.types import Partition
from support.lacking import needed
from support.lake import committed_state, lake_environment
from support.ledger import adds_up_to
from support.records import Record, make_trades
from support.sink import SESSION_TIMEOUT_S, SinkProcess, SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.faults]
SYMBOLS = tuple(f"S{number}USDT" for number in range(12))


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    workspace = SinkWorkspace(kafka.bootstrap_servers, tmp_path)
    yield workspace
    workspace.close()


@contextmanager
def producing(work: SinkWorkspace, trades: list[Record], slices: int) -> Iterator[None]:
    """Produce trades from a thread, a slice after the other, while something else goes on."""

    def produce() -> None:
        for number in range(slices):
            work.produce(trades[number::slices])
            time.sleep(0.05)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def finish(work: SinkWorkspace, trades: list[Record]) -> None:
    """Let one more sink take in what is left, and judge."""
    work.close()
    work.run_to_end()
    work.check(trades)


@pytest.mark.parametrize("seed", [11, 12])
def test_killed_at_random_moments_it_neither_loses_nor_doubles(work: SinkWorkspace, seed: int) -> None:
    draw = random.Random(seed)  # not for secrets
    trades = make_trades(12_000, symbols=SYMBOLS, seed=seed)
    with producing(work, trades, 60):
        for _ in range(4):
            sink = work.start()
            sink.wait_said("partitions taken")
            time.sleep(draw.uniform(0.0, 1.5))
            sink.kill()
    finish(work, trades)


@pytest.mark.levels
@pytest.mark.parametrize("seed", [31, 32])
def test_killed_while_it_defers_and_drains_it_neither_loses_nor_doubles(work: SinkWorkspace, seed: int) -> None:
    draw = random.Random(seed)  # not for secrets
    work.priorities = dict(zip(SYMBOLS, ("critical", "low", "normal") * 4, strict=True))
    trades = make_trades(12_000, symbols=SYMBOLS, seed=seed)
    owing, levels = 0, (3, 0, 2, 0, 3, 0)
    for number, level in enumerate(levels):
        work.set_level(level)
        sink = work.start()
        sink.wait_said("partitions taken")
        with producing(work, trades[number :: len(levels)], 10):  # of its own, else a sink before it has read all
            if level:
                wait_until(lambda: work.owed() > 0, "something to be owed")
            time.sleep(draw.uniform(0.0, 1.5))
            owing = max(owing, work.owed())
            sink.kill()
    assert owing > 0
    work.set_level(0)
    finish(work, trades)
    assert work.check_every_snapshot() > 0


@pytest.mark.parametrize("seed", [41, 42])
def test_killed_while_it_keeps_the_tables_beside_the_trades_it_neither_loses_nor_doubles(
    work: SinkWorkspace, seed: int
) -> None:
    """Two at once, killed at random moments: the judges are the log's positions and bytes, and the commit state."""
    draw = random.Random(seed)  # not for secrets
    work.priorities = dict(zip(SYMBOLS, ("critical", "low", "normal") * 4, strict=True))
    trades = make_trades(3_000, symbols=SYMBOLS, seed=seed)
    bad = {number: b"no record %d" % number for number in range(60)}
    topic_id, _ = work.admin.describe_topics([work.topic])[work.topic]
    for number in range(6):
        work.set_level(2 * (number % 2))
        sinks = [work.start(K2_SINK_PROJECT_EVERY_S="0.05") for _ in range(2)]
        sinks[0].wait_said("partitions taken")
        for at in range(number, 60, 6):
            work.produce_value(bad[at], at % work.partitions)
        work.produce(trades[number::6])
        time.sleep(draw.uniform(0.5, 2.0))
        for sink in sinks:
            sink.kill()
    work.set_level(0)
    last = work.start(K2_SINK_PROJECT_EVERY_S="0.05")
    ends = work.admin.stable_ends(work.topic, [Partition(number) for number in range(work.partitions)])
    wait_until(lambda: work.committed() == sum(ends.values()) and not work.owed(), "all to be in the table")
    wait_until(lambda: len(beside(work, DLQ)) >= 60, "all letters in their table")
    wait_until(lambda: told_to_the_head(work), "the history to be told")
    letters = beside(work, DLQ).to_pylist()
    places = [(row["topic_id"], row["kafka_partition"], row["kafka_offset"]) for row in letters]
    assert len(set(places)) == len(places) == 60
    assert {place[0] for place in places} == {topic_id}
    assert sorted(row["value"] for row in letters) == sorted(bad.values())
    state = committed_state(work.settings, work.namespace)
    assert state is not None
    assert adds_up_to(beside(work, LEDGER), state)
    assert "unseen" not in beside(work, LEDGER).column("event").to_pylist()
    assert last.terminate() == 0
    work.check(trades, dead_letters=60)


def beside(work: SinkWorkspace, form: TableForm) -> pa.Table:
    """Return all rows of a table beside the trades."""
    with closing(open_catalog(work.settings)) as catalog:
        table = load_table(catalog, work.namespace, form)
        return pa.table({}) if table is None else table.scan().to_arrow()


def told_to_the_head(work: SinkWorkspace) -> bool:
    """Return whether the history of the ledger goes up to the newest snapshot."""
    with closing(open_catalog(work.settings)) as catalog:
        ledger, trades = (load_table(catalog, work.namespace, form) for form in (LEDGER, TRADES))
        assert ledger is not None
        assert trades is not None
        head = trades.current_snapshot()
        return head is not None and Told.of(ledger.properties).sequence_number == head.sequence_number


def test_two_at_once_share_the_work_and_one_may_die(work: SinkWorkspace) -> None:
    trades = make_trades(6_000, symbols=SYMBOLS, seed=13)
    first, second = work.start(), work.start()
    for sink in (first, second):
        sink.wait_owned(2)
    work.produce(trades[:3_000])
    first.wait_said("committed")
    second.wait_said("committed")
    with producing(work, trades[3_000:], 20):
        first.kill()
    wait_until(lambda: work.committed() == 6_000, "the survivor to take in all")
    finish(work, trades)


def test_a_sink_that_slept_through_its_replacement_commits_nothing(work: SinkWorkspace) -> None:
    work.sink = {"commitIntervalSeconds": 2}
    trades = make_trades(4_000, symbols=SYMBOLS, seed=14)
    zombie = work.start()
    zombie.wait_said("partitions taken")
    work.produce(trades[:1_000])
    wait_until(lambda: zombie.metric("k2_sink_records_read_total") >= 1_000, "the first sink to have read")
    zombie.signal(signal.SIGSTOP)
    before = work.committed()
    heir = work.start()
    work.produce(trades[1_000:])
    wait_until(lambda: work.committed() == 4_000, f"the heir to commit all, from {before}", 30 * SESSION_TIMEOUT_S)
    zombie.signal(signal.SIGCONT)
    more = make_trades(500, symbols=("LATEUSDT",), seed=15)
    work.produce(more)
    wait_until(lambda: work.committed() == 4_500, "both to go on")
    assert heir.process.poll() is None
    finish(work, trades + more)


def test_a_warehouse_that_cannot_be_written_heals_and_loses_nothing(work: SinkWorkspace) -> None:
    trades = make_trades(2_000, symbols=SYMBOLS, seed=16)
    work.produce(trades[:1_000])
    work.run_to_end()
    sink = work.start()
    sink.wait_said("partitions taken")
    data = work.folder / f"warehouse/{work.namespace}/trades/data"
    data.rename(data.with_name("away"))
    data.write_text("no folder")
    work.produce(trades[1_000:])
    sink.wait_said("commit: will be tried again")
    assert sink.get("/health").status_code == 503
    assert "expected room to write" in sink.get("/health").json()["checks"]["commit"]
    data.unlink()
    data.with_name("away").rename(data)
    wait_until(lambda: work.committed() == 2_000, "the rest to be committed")
    wait_until(lambda: sink.get("/health").status_code == 200, "health to come back")
    assert sink.terminate() == 0
    work.check(trades)


@pytest.fixture
def small(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    """A pipeline whose lake is on a file system of 24 MiB of its own."""
    with needed("root, who may mount a small file system"):
        if os.geteuid():
            raise SetupError(f"found user {os.geteuid()}, expected 0")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        with closing(SinkWorkspace(kafka.bootstrap_servers, tmp_path, lake=lake_environment(disk))) as workspace:
            yield workspace
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_loses_nothing(small: SinkWorkspace) -> None:
    first = make_trades(500, symbols=SYMBOLS, seed=31)
    second = make_trades(20_000, symbols=SYMBOLS, seed=32, first_id=900)
    small.produce(first)
    sink = small.start()
    small.wait_committed(len(first))
    filler = small.folder / "disk" / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as taking:
        while taking.write(bytes(65_536)):  # until the disk takes no more
            pass
    small.produce(second)
    sink.wait_said("commit: will be tried again")
    assert "No space left on device" in sink.said("commit: will be tried again")[0]["error"]
    assert sink.get("/readyz").status_code == 503
    assert small.committed() == len(first)
    filler.unlink()
    small.wait_committed(len(first) + len(second))
    assert sink.terminate() == 0
    small.check([*first, *second])


def test_a_locked_catalog_heals_and_loses_nothing(work: SinkWorkspace) -> None:
    trades = make_trades(1_000, symbols=SYMBOLS, seed=17)
    sink: SinkProcess = work.start(K2_CATALOG_URI=f"sqlite:///{work.folder}/catalog.db?timeout=0.1")
    sink.wait_said("partitions taken")
    lock = sqlite3.connect(work.folder / "catalog.db", timeout=30)
    lock.execute("BEGIN EXCLUSIVE")
    work.produce(trades)
    sink.wait_said("no clear answer", 2)
    lock.rollback()
    lock.close()
    wait_until(lambda: work.committed() == 1_000, "the commit after the lock")
    assert sink.terminate() == 0
    work.check(trades)


def test_a_broker_that_dies_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    trades = make_trades(2_000, symbols=SYMBOLS, seed=18)
    with LocalKafka(tmp_path / "kafka") as kafka:
        work = SinkWorkspace(kafka.bootstrap_servers, tmp_path)
        try:
            sink = work.start()
            work.produce(trades[:1_000])
            wait_until(lambda: work.committed() == 1_000, "the first half")
            kafka.process.kill()
            kafka.start()
            work.produce(trades[1_000:])
            wait_until(lambda: work.committed() == 2_000, "the second half")
            assert sink.terminate() == 0
            work.check(trades)
        finally:
            work.close()
