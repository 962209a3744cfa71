"""Enrichment on real tables: each committed row is looked at once, whoever does it and whatever comes in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitStateUnknownException

from k2_core.errors import CatalogUnavailableError, StateError, StorageUnavailableError
from k2_core.quality import CHECKED_KEY, COLUMNS, QUALITY, Checked
from k2_core.reference import Listing, References, Steps
from k2_core.tables import ensure_table, load_table, open_catalog
from k2_core.types import Level, Offset, Symbol, TopicId
from k2_sink.checking import Checking, Expected
from k2_sink.commit import Committed
from k2_sink.files import FileWriter, sort_rows
from k2_sink.projection import CATCH_UP_SHARE
from k2_sink.protocol import Claim, Span
from support.lake import lake_settings, table_form
from support.projections import AT, EVERY_S, UID, Derived
from support.records import Record, make_trades


@dataclass
class World(Derived):
    """A trades table, its findings, and those who look for them at a time of the test's own."""

    committed: int = 0
    known: References = field(default_factory=dict)

    def commit(self, trades: list[Record]) -> None:
        """Commit a batch of its own."""
        start, self.committed = self.committed, self.committed + len(trades)
        groups = sort_rows(table_form(trades))
        files = [FileWriter(self.writer.table, 3).write(group, f"{start}-{at}") for at, group in enumerate(groups)]
        claim = Claim("cluster", {AT[0]: TopicId("id")}, {AT: Span(Offset(start), Offset(self.committed))}, f"b{start}")
        assert isinstance(self.writer.commit(claim, files), Committed)

    def checking(self, rows: int = 1_000_000, catalog: Catalog | None = None) -> Checking:
        """Return one more that looks; it is due at once."""
        turns = self.due()
        return Checking(self.tables(catalog), Expected({"BTCUSDT"}, self.known), self.metrics, turns, rows)

    def found(self) -> list[dict[str, Any]]:
        """Return all findings."""
        table = load_table(self.catalog, "market", QUALITY)
        return [] if table is None else table.scan().to_arrow().to_pylist()

    def looked_at(self) -> dict[str, int]:
        """Return in how many trades of each symbol something was found."""
        sums: dict[str, int] = {}
        for row in self.found():
            sums[row["symbol"]] = sums.get(row["symbol"], 0) + row["trades"]
        return sums


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World.in_folder(tmp_path) as world:
        yield world


def unlisted(count: int, seed: int, symbol: str = "GONEUSDT") -> list[Record]:
    """Return trades in each of which one thing is to be found."""
    trades = make_trades(count, seed=seed)
    for trade in trades:
        trade.update(symbol=symbol, vendor_data={}, receive_timestamp=trade["exchange_timestamp"])
    return trades


def test_what_was_committed_is_looked_at_once(world: World) -> None:
    checking = world.checking()
    world.commit(unlisted(30, 1))
    world.commit(unlisted(20, 2, "OTHERUSDT"))
    assert checking.step(Level.NORMAL) == 50
    assert world.looked_at() == {"GONEUSDT": 30, "OTHERUSDT": 20}
    assert {(row["from_sequence_number"], row["to_sequence_number"]) for row in world.found()} == {(1, 2)}
    assert checking.step(Level.NORMAL) == 0  # not due
    world.now_s += EVERY_S
    assert checking.step(Level.NORMAL) == 0  # nothing new
    world.commit(unlisted(7, 3))
    world.now_s += EVERY_S
    assert checking.step(Level.NORMAL) == 7
    assert world.looked_at() == {"GONEUSDT": 37, "OTHERUSDT": 20}
    assert world.metrics.checked._value.get() == 57
    assert world.metrics.findings.labels("unlisted_symbol")._value.get() == 57


def test_reference_data_is_joined_to_what_was_committed(world: World) -> None:
    world.known = {Listing("binance", "spot", Symbol("BTCUSDT")): Steps(Decimal("0.05"), Decimal("0.001"))}
    trades = unlisted(200, 1, "BTCUSDT")
    world.commit(trades)
    assert world.checking().step(Level.NORMAL) == 200
    wanted = {
        "off_tick": [trade for trade in trades if trade["price"] % Decimal("0.05")],
        "off_lot": [trade for trade in trades if trade["quantity"] % Decimal("0.001")],
    }
    found = {row["finding"]: (row["trades"], row["example"]) for row in world.found()}
    assert found == {name: (len(off), min(trade["message_id"] for trade in off)) for name, off in wanted.items()}
    assert 0 < found["off_tick"][0] < 200
    for name in found:
        assert world.metrics.findings.labels(name)._value.get() == found[name][0]


def test_without_reference_data_no_more_is_read_than_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []

    def reading(source: Any, columns: list[str]) -> Any:
        read.append(columns)
        return pq.read_table(source, columns=columns)

    monkeypatch.setattr("k2_sink.checking.pq", SimpleNamespace(read_table=reading))
    world.commit(unlisted(5, 1, "BTCUSDT"))
    assert world.checking().step(Level.NORMAL) == 5
    world.known = {Listing("binance", "spot", Symbol("BTCUSDT")): Steps(Decimal("0.01"))}
    world.commit(unlisted(5, 2, "BTCUSDT"))
    assert world.checking().step(Level.NORMAL) == 5
    assert read == [list(COLUMNS), [*COLUMNS, "price"]]


@pytest.mark.parametrize("level", [level for level in Level if level > Level.NORMAL])
def test_a_level_puts_it_off(world: World, level: Level) -> None:
    checking = world.checking()
    world.commit(unlisted(30, 1))
    assert checking.step(level) == 0
    assert world.found() == []
    assert checking.step(Level.NORMAL) == 30
    assert world.looked_at() == {"GONEUSDT": 30}


def test_who_comes_after_one_that_died_goes_on_from_the_table(world: World) -> None:
    world.commit(unlisted(30, 1))
    assert world.checking().step(Level.NORMAL) == 30
    world.commit(unlisted(12, 2))
    assert world.checking().step(Level.NORMAL) == 12
    assert world.looked_at() == {"GONEUSDT": 42}


def test_more_than_a_step_takes_is_caught_up_with_in_whole_commits(world: World) -> None:
    checking = world.checking(rows=40)
    for seed in range(5):
        world.commit(unlisted(30, seed, f"S{seed}"))
    steps = []
    for _ in range(4):
        steps.append(checking.step(Level.NORMAL))
        world.now_s += EVERY_S * CATCH_UP_SHARE
    assert steps == [60, 60, 30, 0]
    assert world.looked_at() == {f"S{seed}": 30 for seed in range(5)}


def test_a_commit_of_several_files_is_looked_at_as_one(world: World) -> None:
    checking = world.checking(rows=10)
    for seed in range(3):
        world.commit([*unlisted(20, seed, "GONEUSDT"), *unlisted(20, seed, "OTHERUSDT")])
    steps = []
    for _ in range(4):
        steps.append(checking.step(Level.NORMAL))
        world.now_s += EVERY_S
    assert steps == [40, 40, 40, 0]
    assert world.looked_at() == {"GONEUSDT": 60, "OTHERUSDT": 60}


def test_manifests_that_were_merged_bring_nothing_a_second_time(world: World) -> None:
    """As other engines, and the library if it is told to, put the entries of older commits into a new manifest."""
    world.commit(unlisted(30, 1))
    assert world.checking().step(Level.NORMAL) == 30
    merging = {"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "2"}
    table, _ = world.writer.load()
    with table.transaction() as transaction:
        transaction.set_properties(merging)
    table.append(table_form(unlisted(5, 2, "OTHERUSDT")))
    head = table.current_snapshot()
    assert head is not None
    assert len(head.manifests(table.io)) == 1
    assert world.checking().step(Level.NORMAL) == 5
    assert world.looked_at() == {"GONEUSDT": 30, "OTHERUSDT": 5}


def test_ordinary_trades_move_it_on_without_a_row(world: World) -> None:
    world.commit(unlisted(30, 1, "BTCUSDT"))
    assert world.checking().step(Level.NORMAL) == 30
    assert world.found() == []
    quality = load_table(world.catalog, "market", QUALITY)
    assert quality is not None
    assert quality.current_snapshot() is None
    assert Checked.of(quality.properties, str(world.writer.table.metadata.table_uuid)).sequence_number == 1


def test_without_trades_there_is_nothing_to_look_at(world: World) -> None:
    assert world.checking().step(Level.NORMAL) == 0  # a table without a snapshot
    world.catalog.drop_table("market.trades")
    assert world.checking().step(Level.NORMAL) == 0
    assert load_table(world.catalog, "market", QUALITY) is None


def test_a_table_that_was_made_again_is_looked_at_from_its_beginning(world: World) -> None:
    world.commit(unlisted(30, 1))
    assert world.checking().step(Level.NORMAL) == 30
    world.catalog.drop_table("market.trades")
    again = World(world.folder, world.catalog, now_s=world.now_s)
    again.commit(unlisted(11, 2, "OTHERUSDT"))
    assert again.checking().step(Level.NORMAL) == 11


def test_of_two_that_look_at_once_one_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's commit is refused as the head is another, and its findings are nowhere."""
    world.commit(unlisted(30, 1))
    ensure_table(world.catalog, "market", QUALITY, UID)
    with closing(open_catalog(lake_settings(world.folder))) as other:
        late = world.checking(catalog=other)
        first = world.checking()
        commit = other.commit_table

        def commit_late(*arguments: Any) -> Any:
            monkeypatch.setattr(other, "commit_table", commit)
            assert first.step(Level.NORMAL) == 30
            return commit(*arguments)

        monkeypatch.setattr(other, "commit_table", commit_late)
        assert late.step(Level.NORMAL) == 0
    assert world.looked_at() == {"GONEUSDT": 30}


def test_an_answer_that_is_lost_is_looked_for_at_the_next_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.commit(unlisted(30, 1))
    checking, commit = world.checking(), world.catalog.commit_table

    def lose(*arguments: Any) -> Any:
        monkeypatch.setattr(world.catalog, "commit_table", commit)
        commit(*arguments)
        raise CommitStateUnknownException("timed out")

    ensure_table(world.catalog, "market", QUALITY, UID)
    monkeypatch.setattr(world.catalog, "commit_table", lose)
    with pytest.raises(
        CatalogUnavailableError, match=r"catalog: found CommitStateUnknownException \(timed out\), expected an answer"
    ):
        checking.step(Level.NORMAL)
    world.now_s += EVERY_S
    assert checking.step(Level.NORMAL) == 0
    assert world.looked_at() == {"GONEUSDT": 30}


def test_a_file_that_cannot_be_read_stops_it_there(world: World) -> None:
    world.commit(unlisted(30, 1))
    (path,) = (world.folder / "warehouse").rglob("trades/data/**/*.parquet")
    kept = path.read_bytes()
    path.unlink()
    checking = world.checking()
    with pytest.raises(StorageUnavailableError, match=path.name):
        checking.step(Level.NORMAL)
    path.write_bytes(kept)
    world.now_s += EVERY_S
    assert checking.step(Level.NORMAL) == 30
    assert world.looked_at() == {"GONEUSDT": 30}


def test_another_pipelines_table_is_not_written_to(world: World) -> None:
    ensure_table(world.catalog, "market", QUALITY, "other")
    world.commit(unlisted(30, 1))
    with pytest.raises(StateError, match="table quality: found it to be of pipeline other, expected uid"):
        world.checking().step(Level.NORMAL)
    assert world.found() == []


def test_a_property_that_is_none_of_ours_is_refused(world: World) -> None:
    with ensure_table(world.catalog, "market", QUALITY, UID).transaction() as transaction:
        transaction.set_properties({CHECKED_KEY: "yes"})
    world.commit(unlisted(30, 1))
    with pytest.raises(StateError, match=r"k2\.checked: found 'yes'"):
        world.checking().step(Level.NORMAL)
