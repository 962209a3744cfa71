"""Files of rows that are too old are removed from real storage: none that a listed snapshot leads to, and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from pyarrow.fs import FileSelector
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntryStatus

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import open_catalog
from k2_core.types import Level, SnapshotId
from k2_sink.clearing import Clearing
from k2_sink.commit import Recovery, TableWriter, recover
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import CATCH_UP_SHARE
from support.aging import EVERY_S, Aged, noon_s
from support.committing import Faulty

KEEP_DAYS = 7


@pytest.fixture
def aged(lake: ServiceSettings) -> Iterator[Aged]:
    """Four days, of which the first two have left the table."""
    with Aged.where(lake) as aged:
        aged.litter = stored(aged)
        for number in range(4):
            aged.commit(number, partition=number % 2)
        aged.now_s = noon_s(3)
        assert aged.aging(keep_days=1).step(Level.NORMAL) == 80
        yield aged


def clearing(aged: Aged, days_later: float = KEEP_DAYS + 1, writer: TableWriter | None = None) -> Clearing:
    """Return one that looks, some days after what the table's snapshots say of their time; it is due at once."""
    metrics = SinkMetrics(CollectorRegistry())
    at_s = time.time() + days_later * 86_400
    return Clearing(writer or aged.writer, KEEP_DAYS, metrics, aged.turns(), lambda: at_s)


def led_to(aged: Aged) -> set[str]:
    """Return the files that the table's listed snapshots lead to, but for the table's own metadata."""
    table, _ = aged.writer.load()
    found: set[str] = set()
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            found |= {
                entry.data_file.file_path
                for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                if entry.status is not ManifestEntryStatus.DELETED
            }
    return found


def stored(aged: Aged) -> set[str]:
    """Return the files in the table's folder, but for its own metadata."""
    io, location = aged.writer.table.io, aged.writer.table.location()
    assert isinstance(io, PyArrowFileIO)
    scheme, place, path = io.parse_location(location, io.properties)
    found = io.fs_by_scheme(scheme, place).get_file_info(FileSelector(path, recursive=True))
    urls = {location + one.path.removeprefix(path) for one in found if one.is_file}
    return {url for url in urls if not url.endswith(".metadata.json")} - aged.litter


def test_what_no_snapshot_shows_is_removed(aged: Aged) -> None:
    before, left = stored(aged), aged.writer.load()[0].current_snapshot()
    assert before == led_to(aged)
    looks = clearing(aged)
    removed = looks.step(Level.NORMAL)
    table, _ = aged.writer.load()
    assert [one.snapshot_id for one in table.metadata.snapshots] == [left.snapshot_id if left else None]
    assert stored(aged) == led_to(aged)
    assert removed == len(before) - len(stored(aged)) > 8  # four files of rows, four lists, and manifests
    assert aged.held() == aged.since(2)
    aged.commit(4)
    assert aged.held() == aged.since(2)
    assert stored(aged) == led_to(aged)


def test_it_is_done_once(aged: Aged) -> None:
    looks = clearing(aged)
    assert looks.step(Level.NORMAL) > 0
    after = stored(aged)
    aged.now_s += EVERY_S
    assert looks.step(Level.NORMAL) == 0
    assert clearing(aged).step(Level.NORMAL) == 0  # nor does who comes after find anything
    assert stored(aged) == after


@pytest.mark.parametrize("level", [level for level in Level if level > Level.NORMAL])
def test_a_level_puts_it_off(aged: Aged, level: Level) -> None:
    before = stored(aged)
    assert clearing(aged).step(level) == 0
    assert stored(aged) == before


def test_snapshots_stay_as_long_as_they_are_kept(aged: Aged) -> None:
    before = stored(aged)
    assert clearing(aged, days_later=KEEP_DAYS - 1).step(Level.NORMAL) == 0
    assert stored(aged) == before
    assert len(aged.writer.load()[0].metadata.snapshots) == 5


def test_several_such_commits_at_once(aged: Aged) -> None:
    aged.now_s = noon_s(4)
    assert aged.aging(keep_days=1).step(Level.NORMAL) == 40
    aged.commit(4)
    assert clearing(aged).step(Level.NORMAL) > 0
    assert aged.held() == aged.since(3)
    assert stored(aged) == led_to(aged)
    assert len(aged.writer.load()[0].metadata.snapshots) == 2


def test_a_tag_keeps_what_it_shows(aged: Aged, caplog: pytest.LogCaptureFixture) -> None:
    table, _ = aged.writer.load()
    first = table.metadata.snapshots[0].snapshot_id
    table.manage_snapshots().create_tag(first, "evidence").commit()
    before = stored(aged)
    assert clearing(aged).step(Level.NORMAL) == 0
    assert stored(aged) == before
    assert [getattr(one, "snapshots", None) for one in caplog.records] == [["evidence"]]


def test_a_rollback_keeps_what_it_brought_back(aged: Aged, caplog: pytest.LogCaptureFixture) -> None:
    """The head does not descend from the commit any more: its files are the head's."""
    table, state = aged.writer.load()
    older = SnapshotId(table.metadata.snapshots[3].snapshot_id)
    recover(table, Recovery(replace(state.with_aged({}, "back"), epoch=1), "uid", {}, older))
    before = stored(aged)
    assert clearing(aged).step(Level.NORMAL) == 0
    assert stored(aged) == before
    assert not caplog.records  # there is nothing that would have to go
    rows = aged.writer.load()[0].scan().to_arrow()
    assert set(rows.column("message_id").to_pylist()) == aged.since(0).keys()


def test_what_was_rolled_back_keeps_what_it_shows(aged: Aged, caplog: pytest.LogCaptureFixture) -> None:
    """Snapshots beside the head's line are newer than the commit, and show what it took out."""
    table, state = aged.writer.load()
    full, taken = table.metadata.snapshots[3:]
    assert full.summary is not None
    before_it = CommitState.parse(full.summary.additional_properties[STATE_KEY])
    recover(table, Recovery(replace(before_it, epoch=1), "uid", {}, SnapshotId(full.snapshot_id)))
    beside = aged.writer.load()[0].current_snapshot()
    assert beside is not None
    forward = SnapshotId(taken.snapshot_id)
    recover(aged.writer.load()[0], Recovery(replace(state, epoch=2), "uid", {}, forward))
    before = stored(aged)
    assert clearing(aged).step(Level.NORMAL) == 0
    assert stored(aged) == before
    assert [getattr(one, "snapshots", None) for one in caplog.records] == [[str(beside.snapshot_id)]]
    assert aged.held() == aged.since(2)


def test_another_commit_in_between(aged: Aged) -> None:
    faulty = Faulty(open_catalog(aged.settings))
    looks = clearing(aged, writer=aged.another(faulty.catalog))
    faulty.before.append(lambda: aged.commit(4))
    before = stored(aged)
    assert looks.step(Level.NORMAL) == 0
    assert stored(aged) > before
    aged.now_s += EVERY_S * CATCH_UP_SHARE
    assert looks.step(Level.NORMAL) > 0
    assert aged.held() == aged.since(2)
    assert stored(aged) == led_to(aged)
    faulty.catalog.close()


def test_who_dies_before_the_files_are_gone_leaves_them_to_the_next(aged: Aged) -> None:
    faulty = Faulty(open_catalog(aged.settings))
    faulty.after.append(faulty.lose_the_answer)
    with pytest.raises(CatalogUnavailableError):
        clearing(aged, writer=aged.another(faulty.catalog)).step(Level.NORMAL)
    faulty.catalog.close()
    assert clearing(aged).step(Level.NORMAL) == 4
    rows = {path for path in stored(aged) if path.endswith(".parquet")}
    assert rows == {path for path in led_to(aged) if path.endswith(".parquet")}
    assert aged.held() == aged.since(2)
