from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from k2_core.errors import CatalogUnavailableError, QueryError
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import ensure_table, open_catalog
from k2_query.lake import Lake, LakeHead
from support.query import BASE, Logged, World, make_records, table_rows
from support.waiting import wait_until

STATE = CommitState("cluster", batch_id="the-batch")


@pytest.fixture
def table_world(tmp_path: Path) -> Iterator[World]:
    """A table without any Kafka."""
    with closing(World("127.0.0.1:1", tmp_path, "lake")) as made:
        yield made


def rows_of(first: int, count: int) -> list[Logged]:
    return [Logged(one, "t", 0, at) for at, one in enumerate(make_records("BTCUSDT", first, count, BASE))]  # type: ignore[arg-type]


@contextmanager
def following(world: World) -> Iterator[tuple[Lake, list[LakeHead]]]:
    published: list[LakeHead] = []
    lake = Lake(lambda: open_catalog(world.settings), world.namespace, TRADES, published.append)
    lake.start()
    try:
        yield lake, published
    finally:
        lake.stop()


def head_at(lake: Lake, snapshot_id: int) -> LakeHead:
    wait_until(lambda: lake.head(1).snapshot.id == snapshot_id, f"snapshot {snapshot_id}")
    return lake.head(1)


def test_follows_the_table_from_before_it_exists(table_world: World) -> None:
    assert table_world.catalog is not None
    with following(table_world) as (lake, published):
        head = lake.head(20)
        assert (head.table, head.snapshot.id) == (None, None)
        ensure_table(table_world.catalog, "lake", TRADES, "uid")
        wait_until(lambda: lake.head(1).table is not None, "the table")
        assert lake.head(1).snapshot.id is None
        for number in range(3):
            written = table_world.write(table_rows(rows_of(number * 10, 10)), STATE)
            found = head_at(lake, written)
            assert int(found.snapshot.index.rows.sum()) == (number + 1) * 10
            assert found.snapshot.state == STATE
            assert found.snapshot.problem is None
        assert [head.snapshot.id for head in published][-1] == written
        assert lake.problem is None
        wait_until(lambda: lake.checked_s_ago < 5, "another look")


def test_a_snapshot_of_another_engine_has_the_table_s_state(table_world: World) -> None:
    table_world.write(table_rows(rows_of(0, 10)), STATE)
    without = table_world.write(table_rows(rows_of(10, 5)), None)
    with following(table_world) as (lake, _):
        head = lake.head(20)
        assert head.snapshot.id == without
        assert head.snapshot.state == STATE
        [first, _second] = table_world.catalog.load_table(("lake", "trades")).snapshots()
        assert lake.at(first.snapshot_id, head).state == STATE


@pytest.mark.parametrize("text", ["{", '{"format": 99}'], ids=["no-json", "newer"])
def test_a_state_that_cannot_be_read_is_a_problem_of_the_snapshot(table_world: World, text: str) -> None:
    table_world.write(table_rows(rows_of(0, 10)), None)
    table = table_world.catalog.load_table(("lake", "trades"))
    with table.transaction() as transaction:
        transaction.set_properties({STATE_KEY: text})
    with following(table_world) as (lake, _):
        snapshot = lake.head(20).snapshot
        assert snapshot.state is None
        assert "commit state" in (snapshot.problem or "")


def test_a_change_without_a_snapshot_keeps_it(table_world: World) -> None:
    table_world.write(table_rows(rows_of(0, 10)), STATE)
    with following(table_world) as (lake, published):
        before = lake.head(20)
        table = table_world.catalog.load_table(("lake", "trades"))
        with table.transaction() as transaction:
            transaction.set_properties({"other": "x"})
        wait_until(lambda: len(published) == 2, "the change")
        assert lake.head(1).snapshot is before.snapshot


def test_when_the_catalog_is_away_the_last_snapshot_stays(table_world: World) -> None:
    written = table_world.write(table_rows(rows_of(0, 10)), STATE)
    database = table_world.folder / "catalog.db"
    content = database.read_bytes()
    with following(table_world) as (lake, _):
        assert lake.head(20).snapshot.id == written
        database.write_bytes(b"no database" * 1000)
        wait_until(lambda: lake.problem, "the problem")
        assert lake.head(1).snapshot.id == written
        with pytest.raises(CatalogUnavailableError, match="catalog"):
            lake.tables()
        database.write_bytes(content)
        wait_until(lambda: lake.problem is None, "the catalog")
        assert [name for name, _, _ in lake.tables()] == ["trades"]


def test_a_catalog_that_never_answered_is_an_error(table_world: World) -> None:
    (table_world.folder / "catalog.db").mkdir()
    with following(table_world) as (lake, _):
        wait_until(lambda: lake.problem and "catalog:" in lake.problem, "the problem")
        assert lake.peek() is None
        with pytest.raises(CatalogUnavailableError, match="no snapshot"):
            lake.head(0.01)
        with pytest.raises(CatalogUnavailableError, match="no catalog"):
            lake.tables()
    assert lake.problem == "the lake's thread is not running"


def test_older_snapshots_by_id_and_by_time(table_world: World) -> None:
    first = table_world.write(table_rows(rows_of(0, 10)), STATE)
    for number in range(1, 20):
        newest = table_world.write(table_rows(rows_of(number * 10, 1)), STATE)
    with following(table_world) as (lake, _):
        head = lake.head(20)
        assert lake.at(newest, head) is head.snapshot
        assert int(lake.at(first, head).index.rows.sum()) == 10
        assert lake.at(first, head) is lake.at(first, head)
        for snapshot in head.table.snapshots() if head.table else []:
            lake.at(snapshot.snapshot_id, head)
        assert lake.at(first, head).state == STATE
        assert lake.as_of(datetime.now(UTC), head).id == newest
        with pytest.raises(QueryError, match="snapshot_id: found 5"):
            lake.at(5, head)
        with pytest.raises(QueryError, match="as_of"):
            lake.as_of(datetime.now(UTC) - timedelta(days=1), head)


def test_manifests_that_no_snapshot_names_any_more_are_forgotten(table_world: World) -> None:
    table_world.write(table_rows(rows_of(0, 10)), STATE)
    with following(table_world) as (lake, _):
        lake.head(20)
        lake.keep_manifests = 0
        table = table_world.catalog.load_table(("lake", "trades"))
        table.overwrite(table_rows(rows_of(100, 5)), snapshot_properties={STATE_KEY: STATE.dump()})
        wait_until(lambda: int(lake.head(1).snapshot.index.rows.sum()) == 5, "the overwrite")
        assert len(lake.manifests) <= 2
