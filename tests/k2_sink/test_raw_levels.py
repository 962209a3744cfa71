"""Level 3 with raw files, on a real Kafka and a real table: the log may go, nothing does; every id comes back once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k2_cli.stack.kafka import LocalKafka
from k2_core.raw_files import RawFiles
from k2_core.records import TRADES
from k2_core.state import LedgerEntry
from k2_core.tables import open_catalog
from k2_core.types import Level, Offset
from k2_sink.commit import Owner, TableWriter
from k2_sink.metrics import SinkMetrics
from k2_sink.raw_sweep import LITTER_AFTER_MS, RawSweep
from support.lake import committed_state, trades_table
from support.records import Record, make_trades
from support.s3 import LocalS3
from support.sink import SinkProcess, SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.levels]
NORMAL, OTHER, CRITICAL = "ETHUSDT", "BNBUSDT", "BTCUSDT"
SYMBOLS = (NORMAL, OTHER, CRITICAL)
PRIORITIES = {NORMAL: "normal", CRITICAL: "critical"}
"""Of four partitions, the three symbols are in one each."""


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    workspace = SinkWorkspace(kafka.bootstrap_servers, tmp_path, priorities=PRIORITIES)
    workspace.set_level(3)
    yield workspace
    workspace.close()


def test_a_log_that_keeps_records_for_a_week_is_enough(work: SinkWorkspace) -> None:
    work.spec = {}
    trades = make_trades(300, symbols=SYMBOLS, seed=70)
    deferred(work, trades).kill()
    assert ledger(work)
    assert all(entry.raw_file is None for entry in ledger(work))
    assert not raw_of(work).names()


def raw_of(work: SinkWorkspace) -> RawFiles:
    table = trades_table(work.settings, work.namespace)
    assert table is not None
    return RawFiles(table.io, table.location())


def ledger(work: SinkWorkspace) -> tuple[LedgerEntry, ...]:
    state = committed_state(work.settings, work.namespace)
    assert state is not None
    return state.open_ledger


def deferred(work: SinkWorkspace, trades: list[Record], slices: int = 3) -> SinkProcess:
    """Let a sink defer trades at level 3, in as many commits, and return it."""
    sink, sent = work.start(), work.committed()
    for number in range(slices):
        part = trades[number::slices] if slices == 1 else trades[_cut(trades, number, slices)]
        work.produce(part)
        sent += len(part)
        work.wait_committed(sent)
    return sink


def _cut(trades: list[Record], number: int, slices: int) -> slice:
    size = -(-len(trades) // slices)
    return slice(number * size, (number + 1) * size)


def waiting(trades: list[Record]) -> int:
    return sum(trade["symbol"] != CRITICAL for trade in trades)


def sweep(work: SinkWorkspace, later_ms: float = LITTER_AFTER_MS + 60_000) -> list[str]:
    """Look at the raw files as a sink does, a day later."""
    admin, namespace = work.admin, work.namespace
    with closing(open_catalog(work.settings)) as catalog:
        table = trades_table(work.settings, namespace)
        assert table is not None
        owner = Owner(table.properties["k2.pipeline"], admin.cluster_id())
        writer = TableWriter(catalog, namespace, TRADES, owner)
        return RawSweep(
            writer, raw_of(work), SinkMetrics(CollectorRegistry()), utc_s=lambda: time.time() + later_ms / 1000
        ).step(Level.NORMAL)


def test_what_the_log_no_longer_has_comes_back_from_raw_files_once(work: SinkWorkspace) -> None:
    trades = make_trades(3_000, symbols=SYMBOLS, seed=61)
    sink = deferred(work, trades)
    assert sink.terminate() == 0
    raw, entries = raw_of(work), ledger(work)
    assert work.owed() == waiting(trades)
    assert len(raw.names()) >= 3
    assert len(entries) == 2  # one a partition, however many commits there were
    for entry in entries:
        assert len(list(raw.links(entry, entry.start))) >= 3
    work.trim_to_table()
    work.set_level(0)
    work.run_to_end()
    work.check(trades)
    assert work.check_every_snapshot() > 2
    assert ledger(work) == ()
    assert len(raw.names()) >= 3  # going back to a snapshot finds what it owed


def test_in_object_storage_it_is_the_same(kafka: LocalKafka, s3: LocalS3, tmp_path: Path) -> None:
    lake = {"K2_CATALOG_URI": f"sqlite:///{tmp_path}/catalog.db?timeout=30", **s3.environment(s3.bucket())}
    work = SinkWorkspace(kafka.bootstrap_servers, tmp_path, lake=lake, priorities=PRIORITIES)
    try:
        work.set_level(3)
        trades = make_trades(900, symbols=SYMBOLS, seed=62)
        assert deferred(work, trades).terminate() == 0
        assert raw_of(work).path("").startswith("s3://")
        assert len(raw_of(work).names()) >= 3
        work.trim_to_table()
        work.set_level(0)
        work.run_to_end()
        work.check(trades)
        assert sweep(work) == []
    finally:
        work.close()


def test_killed_between_raw_file_and_commit_it_leaves_litter_and_nothing_else(work: SinkWorkspace) -> None:
    trades = make_trades(1_500, symbols=SYMBOLS, seed=63)
    deferred(work, trades[:500], slices=1).terminate()
    raw, before = raw_of(work), set(raw_of(work).names())
    sink = work.start(K2_CATALOG_URI=f"sqlite:///{work.folder}/catalog.db?timeout=0.1")
    sink.wait_said("partitions taken")
    lock = sqlite3.connect(work.folder / "catalog.db", timeout=30)
    lock.execute("BEGIN EXCLUSIVE")
    work.produce(trades[500:])
    sink.wait_said("no clear answer")
    litter = set(raw.names()) - before
    sink.kill()
    lock.rollback()
    lock.close()
    assert len(litter) == 1
    assert work.committed() == 500
    deferred(work, [], slices=0)
    wait_until(lambda: work.committed() == 1_500, "the rest to be deferred")
    work.close()
    work.trim_to_table()
    work.set_level(0)
    work.run_to_end()
    work.check(trades)
    assert sweep(work, later_ms=0) == []  # it might be of a commit that is on its way
    assert set(sweep(work)) == litter


def test_killed_after_the_drain_files_go_with_the_snapshots_that_name_them(work: SinkWorkspace) -> None:
    trades = make_trades(900, symbols=SYMBOLS, seed=64)
    deferred(work, trades).kill()
    work.trim_to_table()
    work.set_level(0)
    sink = work.start()
    sink.wait_said("drained")
    sink.kill()
    wait_until(lambda: work.owed() == 0 or not work.run_to_end(), "all to be brought in")
    work.check(trades)
    assert sweep(work) == []
    table, names = trades_table(work.settings, work.namespace), raw_of(work).names()
    assert table is not None
    head = table.current_snapshot()
    assert head is not None
    owing = [one.snapshot_id for one in table.snapshots() if one.snapshot_id != head.snapshot_id]
    last = owing[-1]
    for snapshot_id in owing[:-1]:
        table.maintenance.expire_snapshots().by_id(snapshot_id).commit()
    kept = set(raw_of(work).names()) - set(sweep(work))
    table = trades_table(work.settings, work.namespace)
    assert table is not None
    left = [one for one in ledger_at(work, last) if one.raw_file is not None]
    assert kept == {link.name for one in left for link in raw_of(work).links(one, one.start)}
    table.maintenance.expire_snapshots().by_id(last).commit()
    sweep(work)
    assert raw_of(work).names() == []
    assert names
    work.check(trades)


def ledger_at(work: SinkWorkspace, snapshot_id: int) -> tuple[LedgerEntry, ...]:
    from k2_core.state import STATE_KEY, CommitState

    table = trades_table(work.settings, work.namespace)
    assert table is not None
    snapshot = table.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    assert snapshot.summary is not None
    return CommitState.parse(snapshot.summary.additional_properties[STATE_KEY]).open_ledger


def test_litter_is_removed_at_the_start_and_what_is_named_stays(work: SinkWorkspace) -> None:
    trades = make_trades(300, symbols=SYMBOLS, seed=65)
    assert deferred(work, trades, slices=1).terminate() == 0
    raw, named = raw_of(work), raw_of(work).names()
    old = f"{1_700_000_000_000:013d}-{'0' * 32}.raw"
    Path(raw.path(old).removeprefix("file://")).write_bytes(b"of a sink that died")
    work.set_level(0)
    sink = work.start()
    wait_until(lambda: old not in raw.names(), "the litter to be gone")
    assert sink.terminate() == 0
    assert raw.names() == named
    work.set_level(0)
    work.run_to_end()
    work.check(trades)


def test_two_sinks_and_the_heir_of_one_keep_the_way_back(work: SinkWorkspace) -> None:
    trades = make_trades(3_000, symbols=SYMBOLS, seed=66)
    first, second = work.start(), work.start()
    for sink in (first, second):
        sink.wait_owned(2)
    work.produce(trades[:1_000])
    wait_until(lambda: work.committed() == 1_000, "the first third")
    second.kill()
    work.produce(trades[1_000:2_000])
    wait_until(lambda: work.committed() == 2_000, "the second third, by the heir")
    work.start()
    wait_until(lambda: first.metric("k2_sink_owned_partitions") == 2, "two partitions each again")
    work.produce(trades[2_000:])
    wait_until(lambda: work.committed() == 3_000, "the last third")
    assert work.owed() == waiting(trades)
    work.close()
    work.trim_to_table()
    work.set_level(0)
    one, other = work.start(), work.start()
    wait_until(lambda: work.owed() == 0, "the ledger to be empty")
    assert (one.terminate(), other.terminate()) == (0, 0)
    work.check(trades)
    work.check_every_snapshot()


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_without_its_raw_file_the_log_is_read_while_it_has_the_range(work: SinkWorkspace, damage: str) -> None:
    trades = make_trades(600, symbols=SYMBOLS, seed=67)
    assert deferred(work, trades, slices=2).terminate() == 0
    raw = raw_of(work)
    path = Path(raw.path(raw.names()[0]).removeprefix("file://"))
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    work.set_level(0)
    sink = work.run_to_end()
    work.check(trades)
    assert path.name in sink.said("raw file: cannot be used, the log is read instead")[0]["error"]


def test_without_both_it_stays_owed_and_is_said_and_the_rest_comes_in(work: SinkWorkspace) -> None:
    trades = make_trades(600, symbols=SYMBOLS, seed=68)
    assert deferred(work, [one for one in trades if one["symbol"] == NORMAL], slices=1).terminate() == 0
    raw = raw_of(work)
    [name] = raw.names()
    path = Path(raw.path(name).removeprefix("file://"))
    content = path.read_bytes()
    path.unlink()
    assert deferred(work, [one for one in trades if one["symbol"] != NORMAL], slices=1).terminate() == 0
    work.trim_to_table()
    work.set_level(0)
    sink, lost = work.start(), sum(one["symbol"] == NORMAL for one in trades)
    wait_until(lambda: work.owed() == lost, "the rest to be brought in")
    later = make_trades(100, symbols=SYMBOLS, seed=69, first_id=10_000)
    work.produce(later)
    wait_until(lambda: work.committed() == 700, "what comes in now")
    wait_until(lambda: sink.get("/health").status_code == 503, "health to say so")
    said = sink.get("/health").json()["checks"]["owed"]
    assert name in said
    assert f"the {lost} records come in" in said
    assert sink.get("/readyz").status_code == 200
    assert [(one.raw_file, one.start) for one in ledger(work)] == [(name, Offset(0))]
    assert sink.terminate() == 0
    path.write_bytes(content)
    work.run_to_end()
    work.check(trades + later)
    work.check_every_snapshot()
