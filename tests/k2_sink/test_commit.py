"""Commits on a real catalog: two writers, lost answers, locked and foreign tables."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2_core.errors import CatalogUnavailableError, StateError
from k2_core.records import TRADES
from k2_core.state import SNAPSHOT_KEY, STATE_KEY, CommitState, LedgerEntry
from k2_core.tables import open_catalog
from k2_core.types import Offset, Partition, TopicId
from k2_sink.commit import (
    ATTEMPTS,
    BATCH_KEY,
    RETRIES_KEY,
    Committed,
    Owner,
    Recovery,
    TableWriter,
    read_head,
    recover,
)
from k2_sink.ledger import Paid
from k2_sink.protocol import Claim, Drained, Fenced, Repayment, Span, Superseded
from support.committing import OWNER, TOPIC, Faulty, claim, write, writer
from support.lake import by_message_id, committed_state, lake_settings, records_of, table_form, table_rows, trades_table
from support.records import make_trades


def test_rows_and_state_arrive_in_one_snapshot(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    trades = make_trades(100, seed=1)
    done = ours.commit(claim(0, 100), write(ours, trades, "a"))
    assert isinstance(done, Committed)
    assert by_message_id(records_of(table_rows(tmp_path))) == by_message_id(trades)
    table = trades_table(tmp_path)
    assert table is not None
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    summary = snapshot.summary.additional_properties
    properties = table.metadata.properties
    assert summary[STATE_KEY] == properties[STATE_KEY] == done.state.dump()
    assert summary[BATCH_KEY] == "b"
    assert properties[SNAPSHOT_KEY] == f"{snapshot.snapshot_id}@{snapshot.sequence_number}"
    assert done.snapshot_id == snapshot.snapshot_id


def test_a_batch_of_no_rows_still_makes_a_snapshot_with_its_state(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    assert isinstance(ours.commit(claim(0, 5), []), Committed)
    assert committed_state(tmp_path) is not None
    assert isinstance(ours.commit(claim(5, 9), []), Committed)


def test_a_catalog_that_never_answers_clearly_is_given_up_and_the_same_files_land_later(tmp_path: Path) -> None:
    faulty = Faulty(open_catalog(lake_settings(tmp_path)))
    ours = writer(tmp_path, faulty.catalog)
    files = write(ours, make_trades(50, seed=7), "a")
    faulty.before += [faulty.lose_the_answer] * ATTEMPTS
    with pytest.raises(CatalogUnavailableError, match=f"no clear answer in {ATTEMPTS} attempts"):
        ours.commit(claim(0, 50), files)
    assert isinstance(ours.commit(claim(0, 50), files), Committed)
    assert len(table_rows(tmp_path)) == 50


def test_a_locked_catalog_heals(tmp_path: Path) -> None:
    settings = lake_settings(tmp_path, catalog_uri=f"sqlite:///{tmp_path}/catalog.db?timeout=0.05")
    lock = None

    def release(_: float) -> None:
        if lock is not None:
            lock.rollback()

    ours = TableWriter(open_catalog(settings), "market", TRADES, OWNER, sleep=release)
    files = write(ours, make_trades(50, seed=8), "a")
    lock = sqlite3.connect(tmp_path / "catalog.db")
    lock.execute("BEGIN EXCLUSIVE")
    assert isinstance(ours.commit(claim(0, 50), files), Committed)
    lock.close()
    assert ours.failures == {"unknown": 1}
    assert len(table_rows(tmp_path)) == 50


def recovered(base: CommitState, **changes: Any) -> Recovery:
    return Recovery(replace(base, epoch=base.epoch + 1, batch_id="recovery"), "uid", {"k2.recovery": "test"}, **changes)


def test_a_recovery_fences_batches_that_were_begun_before_it(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    ours.commit(claim(0, 50), write(ours, make_trades(50, seed=23), "a"))
    table, state = ours.load()
    made = recover(table, recovered(state))
    assert ours.commit(claim(50, 60), []) == Fenced(1)
    table, state = ours.load()
    head = table.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert (head.snapshot_id, head.summary.additional_properties["k2.recovery"]) == (made, "test")
    assert isinstance(ours.commit(replace(claim(50, 60), epoch=1), []), Committed)
    assert len(table_rows(tmp_path)) == 50


def test_a_recovery_with_older_contents_is_one_commit_on_top_of_them(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    first = make_trades(50, seed=24)
    old = ours.commit(claim(0, 50), write(ours, first, "a"))
    assert isinstance(old, Committed)
    ours.commit(claim(50, 60), write(ours, make_trades(10, symbols=("X",), seed=25), "b"))
    table, _ = ours.load()
    pointer = table.metadata_location
    made = recover(table, recovered(old.state, contents_of=old.snapshot_id))
    table, state = ours.load()
    assert by_message_id(records_of(table_rows(tmp_path))) == by_message_id(first)
    assert state == replace(old.state, epoch=1, batch_id="recovery")
    assert read_head(table).ancestors == {made, old.snapshot_id}
    assert table.metadata.metadata_log[-1].metadata_file == pointer
    assert isinstance(ours.commit(replace(claim(50, 60), epoch=1), []), Committed)


def test_a_recovery_that_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    ours.commit(claim(0, 50), [])
    table, state = ours.load()
    later = ours.commit(claim(50, 60), [])
    assert isinstance(later, Committed)
    with pytest.raises(CatalogUnavailableError, match="newer head"):
        recover(table, recovered(state))
    assert ours.load()[1] == later.state


def test_a_recovery_whose_answer_was_lost_says_so(tmp_path: Path) -> None:
    faulty = Faulty(open_catalog(lake_settings(tmp_path)))
    ours = writer(tmp_path, faulty.catalog)
    ours.commit(claim(0, 50), [])
    table, state = ours.load()
    faulty.after.append(faulty.lose_the_answer)
    with pytest.raises(CatalogUnavailableError, match="found OperationalError"):
        recover(table, recovered(state))


def test_a_table_that_would_let_the_library_retry_is_told_not_to_first(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    ours.commit(claim(0, 50), [])
    with ours.table.transaction() as transaction:
        transaction.remove_properties(RETRIES_KEY)
    table, state = ours.load()
    recover(table, recovered(state))
    assert ours.load()[0].metadata.properties[RETRIES_KEY] == "0"
    assert ours.load()[1].epoch == 1


def test_another_pipelines_table_is_refused(tmp_path: Path) -> None:
    writer(tmp_path)
    with pytest.raises(StateError, match="found pipeline uid, expected other"):
        writer(tmp_path, owner=Owner("other", "cluster")).load()


def test_rows_of_another_tool_without_a_state_are_refused(tmp_path: Path) -> None:
    table = writer(tmp_path).table
    table.append(table_form(make_trades(5, seed=9)))
    with pytest.raises(StateError, match="k2 adopt"):
        writer(tmp_path).load()


def test_a_snapshot_of_another_tool_on_top_changes_nothing(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    ours.commit(claim(0, 50), write(ours, make_trades(50, seed=10), "a"))
    ours.table.append(table_form(make_trades(5, symbols=("OTHER",), seed=11)))
    assert isinstance(
        ours.commit(claim(50, 50 + 7), write(ours, make_trades(7, symbols=("X",), seed=1), "b")), Committed
    )
    assert len(table_rows(tmp_path)) == 62


def test_a_table_rolled_back_by_another_tool_is_refused(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    first = ours.commit(claim(0, 50), write(ours, make_trades(50, seed=12), "a"))
    ours.commit(claim(50, 60), [])
    assert isinstance(first, Committed)
    ours.table.manage_snapshots().set_current_snapshot(first.snapshot_id).commit()
    with pytest.raises(StateError, match="rolled back by another tool"):
        ours.commit(claim(60, 70), [])


def test_expired_snapshots_do_not_matter(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    first = ours.commit(claim(0, 50), write(ours, make_trades(50, seed=12), "a"))
    assert isinstance(first, Committed)
    ours.table.append(table_form(make_trades(5, symbols=("OTHER",), seed=11)))
    ours.table.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    assert isinstance(ours.commit(claim(50, 60), []), Committed)


def test_garbage_in_the_properties_is_named(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    with ours.table.transaction() as transaction:
        transaction.set_properties({SNAPSHOT_KEY: "yesterday"})
    with pytest.raises(StateError, match="found 'yesterday'"):
        ours.load()


def test_a_dropped_table_is_named(tmp_path: Path) -> None:
    ours = writer(tmp_path)
    open_catalog(lake_settings(tmp_path)).drop_table(("market", "trades"))
    with pytest.raises(StateError, match=r"table market\.trades: found none"):
        ours.load()


def test_an_empty_table_stands_at_the_beginning(tmp_path: Path) -> None:
    assert writer(tmp_path).load()[1] == CommitState("cluster")


OWED = LedgerEntry(TOPIC, Partition(0), Offset(0), Offset(50), ("BTCUSDT",), 2, "load", 50)


def defer_all(to: TableWriter) -> None:
    at = (TOPIC, Partition(0))
    span = Span(Offset(0), Offset(50), deferred=(OWED,))
    assert isinstance(to.commit(Claim("cluster", {TOPIC: TopicId("id")}, {at: span}, "d"), []), Committed)


def repay(end: int, batch_id: str = "r") -> Repayment:
    part = Drained(Offset(50), (OWED,), (Paid(OWED, Offset(end), end),))
    return Repayment("cluster", {TOPIC: TopicId("id")}, {(TOPIC, Partition(0)): part}, batch_id)


def test_a_drain_whose_answer_was_lost_is_in_once(tmp_path: Path) -> None:
    faulty = Faulty(open_catalog(lake_settings(tmp_path)))
    ours = writer(tmp_path, faulty.catalog)
    defer_all(ours)
    trades = make_trades(50, symbols=("BTCUSDT",), seed=31)
    faulty.after.append(faulty.lose_the_answer)
    done = ours.commit(repay(50), write(ours, trades, "a"))
    assert isinstance(done, Committed)
    assert ours.failures == {"unknown": 1, "landed_unseen": 1}
    assert (done.state.open_ledger, ours.state) == ((), done.state)
    assert by_message_id(records_of(table_rows(tmp_path))) == by_message_id(trades)


def test_of_two_drains_of_one_range_one_lands(tmp_path: Path) -> None:
    faulty = Faulty(open_catalog(lake_settings(tmp_path)))
    zombie, heir = writer(tmp_path, faulty.catalog), writer(tmp_path)
    defer_all(heir)
    trades = make_trades(50, symbols=("BTCUSDT",), seed=32)

    def overtake() -> None:
        assert isinstance(heir.commit(repay(20, "heir"), write(heir, trades[:20], "heir")), Committed)

    faulty.before.append(overtake)
    assert isinstance(zombie.commit(repay(50, "zombie"), write(zombie, trades, "zombie")), Superseded)
    assert by_message_id(records_of(table_rows(tmp_path))) == by_message_id(trades[:20])
    assert [(entry.start, entry.records) for entry in zombie.state.open_ledger] == [(20, 30)]


def test_a_batch_that_slept_through_a_drain_doubles_nothing(tmp_path: Path) -> None:
    zombie, heir = writer(tmp_path), writer(tmp_path)
    defer_all(zombie)
    trades = make_trades(50, symbols=("BTCUSDT",), seed=33)
    assert isinstance(heir.commit(repay(50), write(heir, trades, "heir")), Committed)
    again = {(TOPIC, Partition(0)): Span(Offset(50), Offset(100), ledger=(OWED,))}  # the same trades, sent once more
    late = Claim("cluster", {TOPIC: TopicId("id")}, again, "zombie")
    assert zombie.commit(late, write(zombie, trades, "zombie")) == Superseded({(TOPIC, Partition(0)): Offset(50)})
    assert by_message_id(records_of(table_rows(tmp_path))) == by_message_id(trades)
