"""k2_cli.recovery.rebuild, one fact a test; tests/property/test_rebuild.py has the reconstruction's proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from k2_cli.completeness import Held
from k2_cli.recovery.rebuild import (
    Rows,
    TopicNow,
    balanced,
    entries_to_count,
    from_rows,
    next_epoch,
    restored,
    with_topic,
)
from k2_core.errors import SpecError, StateError
from k2_core.intervals import IntervalSet
from k2_core.state import CommitState, LedgerEntry, Loss, PartitionState, TopicState
from k2_core.types import Offset, Partition, TopicId, TopicName

T, OLD, NEW = TopicName("market.crypto.trades.binance"), TopicId("old"), TopicId("new")


def held(*ranges: tuple[int, int], twice: int = 0) -> Held:
    numbers = IntervalSet.of_ranges(ranges)
    return Held(len(numbers) + twice, numbers)


def rows(found: Mapping[tuple[str, int], Held]) -> Rows:
    return Rows(found, {TopicId(topic_id): T for topic_id, _ in found})


def state(partitions: Mapping[int, PartitionState], topic_id: TopicId = OLD) -> CommitState:
    return CommitState("c", {T: TopicState(topic_id, {Partition(at): one for at, one in partitions.items()})})


def at(position: int, origin: int = 0, **counts: int) -> PartitionState:
    return PartitionState(Offset(position), Offset(origin), **counts)


def now(topic_id: TopicId, *bounds: tuple[int, int]) -> TopicNow:
    starts = {Partition(number): Offset(start) for number, (start, _) in enumerate(bounds)}
    return TopicNow(topic_id, starts, {Partition(number): Offset(end) for number, (_, end) in enumerate(bounds)})


def owed(start: int, end: int, records: int) -> LedgerEntry:
    return LedgerEntry(T, Partition(0), Offset(start), Offset(end), ("X",), 2, "level 2", records)


class TestFromRows:
    def test_next_is_behind_the_last_row_and_holes_are_unexplained(self) -> None:
        found = from_rows(rows({("new", 0): held((3, 5), (7, 10)), ("new", 2): held((0, 4))}), "c", {T: NEW})
        assert found == state({0: at(10, 3, unexplained=2), 2: at(4)}, NEW)

    def test_rows_of_older_topics_are_closed_accounts(self) -> None:
        found = from_rows(rows({("old", 0): held((0, 9)), ("new", 0): held((0, 4))}), "c", {T: NEW})
        assert found.topics[T] == TopicState(NEW, {Partition(0): at(4)}, {OLD: {Partition(0): at(9)}})

    def test_without_a_row_of_todays_topic_the_sink_is_to_refuse(self) -> None:
        found = from_rows(rows({("old", 0): held((0, 9)), ("older", 0): held((0, 4))}), "c", {T: NEW})
        assert found.topics[T].id == OLD
        assert found.topics[T].former == {TopicId("older"): {Partition(0): at(4)}}

    def test_no_rows_are_the_beginning(self) -> None:
        assert from_rows(Rows({}, {}), "c", {T: NEW}) == CommitState("c")


class TestBalanced:
    def test_rows_that_follow_on_are_taken_in(self) -> None:
        assert balanced(state({0: at(5)}), rows({("old", 0): held((0, 8))})) == state({0: at(8)})

    def test_rows_before_the_origin_are_taken_in(self) -> None:
        assert balanced(state({0: at(8, 5)}), rows({("old", 0): held((3, 8))})) == state({0: at(8, 3)})

    def test_a_partition_without_rows_keeps_its_account(self) -> None:
        before = state({0: at(8, markers=8)})
        assert balanced(before, Rows({}, {})) == before

    def test_what_the_ledger_owes_is_no_hole(self) -> None:
        entry = LedgerEntry(T, Partition(0), Offset(2), Offset(6), ("X",), 2, "level 2", 3)
        before = replace(state({0: at(8)}), open_ledger=(entry,))
        assert balanced(before, rows({("old", 0): held((0, 2), (5, 8))})) == before

    @pytest.mark.parametrize(
        ("found", "says"),
        [
            pytest.param(held((0, 5), twice=2), "found 2 rows at positions of others", id="twice"),
            pytest.param(held((0, 5), (7, 9)), "found rows up to offset 8 and none at 5", id="gap"),
        ],
    )
    def test_what_no_state_fits_is_refused(self, found: Held, says: str) -> None:
        with pytest.raises(StateError, match=says):
            balanced(state({0: at(5)}), rows({("old", 0): found}))

    def test_more_rows_than_the_state_has_room_for_are_refused(self) -> None:
        with pytest.raises(StateError, match="found 2 rows more than the state has room for"):
            balanced(state({0: at(5, duplicates=2)}), rows({("old", 0): held((0, 5))}))


class TestWithTopic:
    def test_a_topic_that_was_made_again_closes_the_old_account(self) -> None:
        found = with_topic(state({0: at(7), 1: at(9)}), T, now(NEW, (0, 4), (3, 6)), "why")
        fresh = {Partition(0): at(0), Partition(1): at(3, lost=3)}
        assert found.topics[T] == TopicState(NEW, fresh, {OLD: {Partition(0): at(7), Partition(1): at(9)}})
        assert found.losses == (
            Loss(T, OLD, Partition(0), Offset(7), None, "why"),
            Loss(T, OLD, Partition(1), Offset(9), None, "why"),
            Loss(T, NEW, Partition(1), Offset(0), Offset(3), "why"),
        )

    def test_what_retention_took_is_lost_and_the_rest_stays(self) -> None:
        found = with_topic(state({0: at(7, markers=1), 1: at(9)}), T, now(OLD, (12, 20), (5, 9)), "why")
        assert found.topics[T].partitions == {Partition(0): at(12, markers=1, lost=5), Partition(1): at(9)}
        assert found.losses == (Loss(T, OLD, Partition(0), Offset(7), Offset(12), "why"),)

    def test_nothing_lost_is_the_same_state(self) -> None:
        before = state({0: at(7)})
        assert with_topic(before, T, now(OLD, (5, 9)), "why") is before

    def test_a_log_that_ends_before_the_table_is_refused(self) -> None:
        with pytest.raises(StateError, match="found a log that ends at 6, expected at least 7"):
            with_topic(state({0: at(7)}), T, now(OLD, (0, 6)), "why")

    def test_an_unknown_topic_is_named(self) -> None:
        with pytest.raises(SpecError, match=f"found 'x', expected one that the table has rows of: {T}"):
            with_topic(state({0: at(7)}), TopicName("x"), now(OLD, (0, 6)), "why")

    def test_what_a_gone_topic_still_owes_is_lost_with_it(self) -> None:
        entry, other = owed(2, 6, records=3), replace(owed(2, 6, records=3), topic=TopicName("other"))
        before = replace(state({0: at(8)}), open_ledger=(entry, other))
        found = with_topic(before, T, now(NEW, (0, 6)), "why")
        assert found.topics[T].former == {OLD: {Partition(0): at(8, lost=3)}}
        assert found.open_ledger == (other,)
        assert found.losses[0] == Loss(T, OLD, Partition(0), Offset(2), Offset(6), "why: 3 deferred records")

    def test_of_an_entry_that_retention_cut_what_is_left_is_owed(self) -> None:
        gone, cut, whole = owed(1, 4, records=2), owed(4, 9, records=4), owed(9, 12, records=3)
        before = replace(state({0: at(12)}), open_ledger=(gone, cut, whole))
        bounds = now(OLD, (6, 20))
        assert entries_to_count(before, T, bounds) == {cut: 6, whole: 9}
        found = with_topic(before, T, replace(bounds, left={cut: 1, whole: 3}), "why")
        assert found.open_ledger == (owed(6, 9, records=1), whole)
        assert found.topics[T].partitions == {Partition(0): at(12, lost=5)}
        assert [(loss.start, loss.end) for loss in found.losses] == [(1, 4), (4, 6)]

    def test_an_entry_of_which_no_record_is_left_is_gone(self) -> None:
        cut = owed(4, 9, records=4)
        before = replace(state({0: at(12)}), open_ledger=(cut,))
        found = with_topic(before, T, replace(now(OLD, (6, 20)), left={cut: 0}), "why")
        assert (found.open_ledger, found.topics[T].partitions) == ((), {Partition(0): at(12, lost=4)})

    def test_records_that_are_gone_from_the_middle_of_an_entry_are_lost(self) -> None:
        holed = owed(4, 9, records=4)
        before = replace(state({0: at(12)}), open_ledger=(holed,))
        found = with_topic(before, T, replace(now(OLD, (0, 20)), left={holed: 3}), "why")
        assert (found.open_ledger, found.topics[T].partitions) == (
            (owed(4, 9, records=3),),
            {Partition(0): at(12, lost=1)},
        )
        with pytest.raises(StateError, match="expected no more than the 4 that are owed"):
            with_topic(before, T, replace(now(OLD, (0, 20)), left={holed: 5}), "why")


class TestRestored:
    def test_what_the_table_began_since_is_kept_at_its_beginning(self) -> None:
        target, head = state({0: at(5)}), state({0: at(9), 3: at(8, 2)})
        assert restored(target, head) == state({0: at(5), 3: at(2, 2)})

    def test_a_topic_that_the_table_began_since_too(self) -> None:
        assert restored(CommitState("c"), state({3: at(8, 2)})) == state({3: at(2, 2)})

    def test_a_topic_that_was_made_again_since_is_refused_by_the_sink(self) -> None:
        assert restored(state({0: at(5)}), state({0: at(1), 1: at(1)}, NEW)) == state({0: at(5)})

    def test_a_head_without_a_state_adds_nothing(self) -> None:
        assert restored(state({0: at(5)}), None) == state({0: at(5)})


def test_an_epoch_is_above_all() -> None:
    assert next_epoch([]) == 1
    assert next_epoch([replace(state({}), epoch=4), state({})]) == 5
