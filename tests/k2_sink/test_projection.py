"""Tables that are derived: whose they are, when they are written to, and that of two who write one wins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError, StateError
from k2_core.letters import DLQ, Letter, Place, letter_rows
from k2_core.tables import load_table, open_catalog
from k2_core.types import Level, Offset, Partition, TopicId, TopicName
from k2_sink.projection import CATCH_UP_SHARE, Tables, Turns, write

NOTHING = letter_rows([])


def one(number: int) -> pa.Table:
    place = Place(TopicName("t.dlq"), TopicId("id"), Partition(0), Offset(number))
    return letter_rows([Letter(place, {}, b"bytes", 0)])


@pytest.fixture
def catalog(lake: ServiceSettings) -> Iterator[Catalog]:
    with closing(open_catalog(lake)) as opened:
        yield opened


def held(tables: Tables) -> tuple[str | None, list[int]]:
    """Return how far the table says that it goes, and what it holds."""
    table = tables.projection(DLQ)
    return table.properties.get("reached"), sorted(table.scan().to_arrow().column("letter_offset").to_pylist())


class TestTables:
    def test_one_is_made_and_found_again(self, catalog: Catalog) -> None:
        tables = Tables(catalog, "market", "uid")
        assert tables.trades() is None
        made = tables.projection(DLQ)
        assert tables.projection(DLQ).metadata.table_uuid == made.metadata.table_uuid
        assert load_table(catalog, "market", DLQ) is not None

    def test_another_pipelines_is_refused(self, catalog: Catalog) -> None:
        Tables(catalog, "market", "other").projection(DLQ)
        with pytest.raises(StateError, match="table dlq: found it to be of pipeline other, expected uid"):
            Tables(catalog, "market", "uid").projection(DLQ)


class TestWrite:
    def test_rows_and_how_far_they_go_are_one_commit(self, catalog: Catalog) -> None:
        tables = Tables(catalog, "market", "uid")
        assert write(tables.projection(DLQ), one(1), {"reached": "1"})
        assert held(tables) == ("1", [1])
        assert len(tables.projection(DLQ).metadata.snapshots) == 1

    def test_without_rows_it_goes_on_without_a_snapshot(self, catalog: Catalog) -> None:
        tables = Tables(catalog, "market", "uid")
        assert write(tables.projection(DLQ), NOTHING, {"reached": "1"})
        assert held(tables) == ("1", [])
        assert tables.projection(DLQ).current_snapshot() is None

    @pytest.mark.parametrize("late", [NOTHING, one(1)], ids=["nothing", "rows"])
    @pytest.mark.parametrize("before", [[], [0]], ids=["empty", "filled"])
    def test_who_is_late_writes_nothing(self, catalog: Catalog, before: list[int], late: pa.Table) -> None:
        tables = Tables(catalog, "market", "uid")
        for number in before:
            assert write(tables.projection(DLQ), one(number), {"reached": "before"})
        loaded = tables.projection(DLQ)
        assert write(tables.projection(DLQ), one(2), {"reached": "2"})
        assert not write(loaded, late, {"reached": "1"})
        assert held(tables) == ("2", [*before, 2])

    def test_a_catalog_that_is_away_is_said(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*_: object) -> None:
            raise ConnectionError("refused")

        table = Tables(catalog, "market", "uid").projection(DLQ)
        monkeypatch.setattr(catalog, "commit_table", away)
        with pytest.raises(CatalogUnavailableError, match="refused"):
            write(table, NOTHING, {"reached": "1"})

    def test_many_small_commits_keep_few_manifests(self, catalog: Catalog) -> None:
        tables = Tables(catalog, "market", "uid")
        with tables.projection(DLQ).transaction() as transaction:
            transaction.set_properties({"commit.manifest.min-count-to-merge": "4"})
        for number in range(9):
            assert write(tables.projection(DLQ), one(number), {"reached": str(number)})
        table = tables.projection(DLQ)
        head = table.current_snapshot()
        assert head is not None
        assert len(head.manifests(table.io)) < 5
        assert held(tables) == ("8", list(range(9)))


class TestTurns:
    def test_one_an_interval(self) -> None:
        now = [100.0]
        turns = Turns(60, lambda: now[0])
        assert not turns.due(Level.NORMAL)
        now[0] += 60
        assert turns.due(Level.NORMAL)
        assert not turns.due(Level.NORMAL)
        now[0] += 59.9
        assert not turns.due(Level.NORMAL)
        now[0] += 0.1
        assert turns.due(Level.NORMAL)

    def test_sooner_while_there_is_more(self) -> None:
        now = [0.0]
        turns = Turns(60, lambda: now[0])
        now[0] = 60
        assert turns.due(Level.NORMAL)
        turns.soon()
        now[0] += 60 * CATCH_UP_SHARE
        assert turns.due(Level.NORMAL)

    @pytest.mark.parametrize("level", [level for level in Level if level > Level.NORMAL])
    def test_a_level_puts_it_off(self, level: Level) -> None:
        now = [0.0]
        turns = Turns(60, lambda: now[0])
        now[0] = 60
        assert not turns.due(level)
        assert turns.due(Level.NORMAL)
