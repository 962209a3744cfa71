"""Commits that another writer was faster with, or whose answer was lost: the same on each kind of catalog."""

from __future__ import annotations

import pytest

from k2_core.config import ServiceSettings
from k2_core.errors import CatalogUnavailableError
from k2_core.records import TRADES
from k2_core.tables import open_catalog
from k2_core.types import Offset, Partition
from k2_sink.commit import Committed, TableWriter
from k2_sink.protocol import Superseded
from support.committing import OWNER, TOPIC, Faulty, claim, write, writer
from support.lake import by_message_id, committed_state, records_of, table_rows
from support.records import make_trades


def test_of_two_writers_with_the_same_offsets_one_lands_and_the_other_is_told(lake: ServiceSettings) -> None:
    first, second = writer(lake), writer(lake)
    trades = make_trades(50, seed=2)
    files = write(first, trades, "a"), write(second, trades, "b")
    assert isinstance(first.commit(claim(0, 50), files[0]), Committed)
    assert second.commit(claim(0, 50), files[1]) == Superseded({(TOPIC, Partition(0)): Offset(50)})
    assert len(table_rows(lake)) == 50


def test_a_writer_overtaken_between_load_and_commit_goes_on_with_its_own_partition(lake: ServiceSettings) -> None:
    faulty = Faulty(open_catalog(lake))
    slow, fast = writer(lake, faulty.catalog), writer(lake)
    trades = make_trades(100, seed=3)
    mine, theirs = trades[:50], trades[50:]

    def overtake() -> None:
        assert isinstance(fast.commit(claim(0, 50, partition=1), write(fast, theirs, "fast")), Committed)

    faulty.before.append(overtake)
    assert isinstance(slow.commit(claim(0, 50), write(slow, mine, "slow")), Committed)
    assert slow.failures == {"conflict": 1}
    assert by_message_id(records_of(table_rows(lake))) == by_message_id(trades)
    state = committed_state(lake)
    assert state is not None
    assert {number: at.next for number, at in state.topics[TOPIC].partitions.items()} == {0: 50, 1: 50}


def test_a_writer_overtaken_on_its_own_partition_drops_its_batch(lake: ServiceSettings) -> None:
    faulty = Faulty(open_catalog(lake))
    zombie, heir = writer(lake, faulty.catalog), writer(lake)
    trades = make_trades(50, seed=4)

    def overtake() -> None:
        assert isinstance(heir.commit(claim(0, 50), write(heir, trades, "heir")), Committed)

    faulty.before.append(overtake)
    assert isinstance(zombie.commit(claim(0, 30), write(zombie, trades[:30], "zombie")), Superseded)
    assert by_message_id(records_of(table_rows(lake))) == by_message_id(trades)


def test_a_commit_whose_answer_was_lost_is_found_to_have_landed(lake: ServiceSettings) -> None:
    faulty = Faulty(open_catalog(lake))
    ours = writer(lake, faulty.catalog)
    trades = make_trades(50, seed=5)
    faulty.after.append(faulty.lose_the_answer)
    assert isinstance(ours.commit(claim(0, 50), write(ours, trades, "a")), Committed)
    assert ours.failures == {"unknown": 1, "landed_unseen": 1}
    assert by_message_id(records_of(table_rows(lake))) == by_message_id(trades)


def test_a_commit_that_never_got_through_is_made_again(lake: ServiceSettings) -> None:
    faulty = Faulty(open_catalog(lake))
    ours = writer(lake, faulty.catalog)
    trades = make_trades(50, seed=6)
    faulty.before += [faulty.lose_the_answer, faulty.lose_the_answer]
    assert isinstance(ours.commit(claim(0, 50), write(ours, trades, "a")), Committed)
    assert ours.failures == {"unknown": 2}
    assert by_message_id(records_of(table_rows(lake))) == by_message_id(trades)


def test_files_that_landed_unseen_are_kept_when_another_writer_has_gone_on_from_them(lake: ServiceSettings) -> None:
    faulty = Faulty(open_catalog(lake))
    ours, heir = writer(lake, faulty.catalog), writer(lake)
    trades = make_trades(50, seed=21)

    def heir_goes_on_and_the_answer_is_lost() -> None:
        assert isinstance(heir.commit(claim(50, 60), []), Committed)
        faulty.lose_the_answer()

    faulty.after.append(heir_goes_on_and_the_answer_is_lost)
    verdict = ours.commit(claim(0, 50, batch_id="ours"), write(ours, trades, "a"))
    assert verdict == Superseded({(TOPIC, Partition(0)): Offset(60)})
    assert ours.may_hold("ours")
    assert by_message_id(records_of(table_rows(lake))) == by_message_id(trades)


def test_a_batch_that_lost_clearly_is_nowhere(lake: ServiceSettings) -> None:
    first, second = writer(lake), writer(lake)
    assert isinstance(first.commit(claim(0, 50, batch_id="first"), []), Committed)
    assert isinstance(second.commit(claim(0, 50, batch_id="second"), []), Superseded)
    assert not first.may_hold("first")
    assert not second.may_hold("second")


def test_a_batch_that_landed_unseen_is_found_by_a_later_call(lake: ServiceSettings) -> None:
    faulty = Faulty(open_catalog(lake))
    ours = writer(lake, faulty.catalog)
    trades = make_trades(50, seed=22)
    files = write(ours, trades, "a")
    waits = [give_up]
    ours = TableWriter(faulty.catalog, "market", TRADES, OWNER, sleep=lambda _: waits.pop()() if waits else None)
    faulty.after.append(faulty.lose_the_answer)
    with pytest.raises(CatalogUnavailableError, match="given up"):
        ours.commit(claim(0, 50), files)
    assert isinstance(ours.commit(claim(0, 50), files), Committed)
    assert by_message_id(records_of(table_rows(lake))) == by_message_id(trades)


def give_up() -> None:
    raise CatalogUnavailableError("given up")
