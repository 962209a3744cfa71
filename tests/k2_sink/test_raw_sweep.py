"""Which raw files are litter: judged on real tables, whose snapshots come and expire."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k2_core.raw_files import RawFiles, Section, raw_rows
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState, LedgerEntry
from k2_core.tables import open_catalog
from k2_core.types import Level, Offset, Partition, TopicId, TopicName
from k2_sink.batch import Batch
from k2_sink.commit import Committed, Owner, TableWriter
from k2_sink.dedup import SeenIds
from k2_sink.metrics import SinkMetrics
from k2_sink.protocol import Claim, Span
from k2_sink.raw_sweep import LITTER_AFTER_MS, SWEEP_EVERY_S, RawSweep, named
from support.lake import lake_settings

AT = (TopicName("t"), Partition(0))
NOW_MS = 1_764_088_369_000


@dataclass
class Table:
    """A table whose commits defer 10 offsets each into a raw file."""

    writer: TableWriter
    files: RawFiles
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.metrics = SinkMetrics(self.registry)

    def shown(self, *names: str) -> list[float | None]:
        """Return what is exported of raw files."""
        return [self.registry.get_sample_value(f"k2_sink_raw_{name}") for name in names]

    def defer(self) -> str:
        """Write a raw file, commit an entry that names it, and return its name."""
        state = self.writer.load()[1]
        ledger, known = state.deferred(*AT), state.partition(*AT)
        start = known.next if known is not None else Offset(0)
        name = self.file(start, ledger[-1].raw_file if ledger else None)
        entry = LedgerEntry(*AT, start, Offset(start + 10), ("A",), 3, "load", 10, raw_file=name)
        self.commit(Span(start, entry.end, ledger=ledger, deferred=(entry,)))
        return name

    def file(self, start: int, previous: str | None = None) -> str:
        offsets = list(range(start, start + 10))
        columns = {name: [0] * 10 for name in ("partition", "timestamp_ms")}
        rows = raw_rows(**columns, offset=offsets, key=[b"A"] * 10, value=[b"v"] * 10)
        section = Section(*AT, Offset(start), Offset(start + 10), 10, previous)
        return self.files.write({AT[0]: rows}, [section], NOW_MS).name

    def commit(self, span: Span) -> None:
        claim = Claim("cluster", {AT[0]: TopicId("id")}, {AT: span}, f"batch-{span.end}")
        assert isinstance(self.writer.commit(claim, []), Committed)

    def pay(self) -> None:
        """Commit a state that owes nothing any more."""
        table, state = self.writer.load()
        text = replace(state, open_ledger=()).dump()
        with table.transaction() as transaction:
            transaction.set_properties({STATE_KEY: text})
            with transaction.update_snapshot(snapshot_properties={STATE_KEY: text}).fast_append():
                pass
        self.writer.table = table

    def expire(self, keep: int) -> None:
        table = self.writer.load()[0]
        for snapshot in sorted(table.snapshots(), key=lambda one: one.sequence_number or 0)[:-keep]:
            table.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()

    def sweep(self, later_ms: int = LITTER_AFTER_MS + 1, level: Level = Level.NORMAL) -> list[str]:
        return RawSweep(self.writer, self.files, self.metrics, utc_s=lambda: (NOW_MS + later_ms) / 1000).step(level)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    writer = TableWriter(open_catalog(lake_settings(tmp_path)), "market", TRADES, Owner("uid", "cluster"))
    return Table(writer, RawFiles(writer.table.io, writer.table.location()))


def test_what_nobody_names_is_removed_once_it_is_old(table: Table) -> None:
    names = [table.defer(), table.defer()]
    litter = table.file(20)
    assert table.sweep(LITTER_AFTER_MS) == []
    assert sorted(table.files.names()) == sorted([*names, litter])
    assert table.sweep() == [litter]
    assert sorted(table.files.names()) == sorted(names)


def test_what_a_ledger_leads_to_is_shown_and_what_is_removed(table: Table) -> None:
    assert all(math.isnan(one or 0) for one in table.shown("files", "bytes"))  # nobody has looked
    assert table.sweep() == []
    assert table.shown("files", "bytes") == [0, 0]
    names = [table.defer(), table.defer()]
    table.file(20)
    sizes = table.files.sizes()
    assert table.sweep(later_ms=0) == []  # nothing is old enough to be removed, and it is shown all the same
    assert table.shown("files", "bytes", "files_removed_total") == [2, sum(sizes[name] for name in names), 0]
    table.sweep()
    assert table.shown("files", "files_removed_total") == [2, 1]
    table.metrics.show(Batch(TRADES, SeenIds()), {}, 0, NOW_MS + 90_000)
    assert table.shown("oldest_seconds") == [90]


def test_what_a_snapshot_owed_stays_until_the_snapshot_expires(table: Table) -> None:
    names = [table.defer() for _ in range(3)]
    table.pay()
    assert table.sweep() == []
    table.expire(keep=2)  # the last that owed leads back to all
    assert table.sweep() == []
    table.expire(keep=1)
    assert sorted(table.sweep()) == sorted(names)
    assert table.files.names() == []


def test_of_what_was_paid_in_part_only_the_rest_stays(table: Table) -> None:
    names = [table.defer() for _ in range(3)]
    state = table.writer.load()[1]
    [entry] = state.open_ledger
    text = replace(state, open_ledger=(replace(entry, start=Offset(20), records=10),)).dump()
    head = table.writer.load()[0]
    with head.transaction() as transaction:
        transaction.set_properties({STATE_KEY: text})
        with transaction.update_snapshot(snapshot_properties={STATE_KEY: text}).fast_append():
            pass
    table.expire(keep=1)
    assert sorted(table.sweep()) == sorted(names[:2])
    assert table.files.names() == names[2:]


def test_the_furthest_way_back_counts_in_whatever_order_the_snapshots_are(table: Table) -> None:
    names = [table.defer() for _ in range(3)]
    head = table.writer.load()[0]
    state = CommitState.parse(head.metadata.properties[STATE_KEY])
    [entry] = state.open_ledger
    late = replace(state, open_ledger=(replace(entry, start=Offset(20)),)).dump()
    summary = {STATE_KEY: late}
    with head.transaction() as transaction, transaction.update_snapshot(snapshot_properties=summary).fast_append():
        pass
    assert named(head, table.files) == set(names)


def test_where_the_way_back_is_broken_nothing_is_litter(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = table.defer(), table.defer()
    litter = table.file(90)
    Path(table.files.path(first).removeprefix("file://")).unlink()
    assert table.sweep() == []
    assert litter in table.files.names()
    assert "nothing was removed" in caplog.text
    assert all(math.isnan(one or 0) for one in table.shown("files", "bytes"))


def test_a_state_that_cannot_be_read_keeps_everything(table: Table) -> None:
    table.defer()
    litter = table.file(90)
    head = table.writer.load()[0]
    with head.transaction() as transaction:
        with transaction.update_snapshot(snapshot_properties={STATE_KEY: '{"format":99}'}).fast_append():
            pass
        transaction.set_properties({"k2.state-snapshot": f"{head.metadata.snapshots[-1].snapshot_id}@1"})
    assert table.sweep() == []
    assert litter in table.files.names()


def test_it_looks_at_the_start_and_once_an_hour_and_not_under_load(table: Table) -> None:
    now = [0.0]
    later = (NOW_MS + LITTER_AFTER_MS + 1) / 1000
    sweep = RawSweep(table.writer, table.files, table.metrics, lambda: now[0], lambda: later)
    table.defer()
    first = table.file(90)
    assert sweep.step(Level.AGGRESSIVE) == []
    assert sweep.step(Level.SOFT) == [first]
    second = table.file(91)
    now[0] = SWEEP_EVERY_S - 1
    assert sweep.step(Level.NORMAL) == []
    now[0] = SWEEP_EVERY_S
    assert sweep.step(Level.NORMAL) == [second]
    now[0] *= 2
    assert sweep.step(Level.NORMAL) == []
