"""Gaps, duplicates and late arrivals of one symbol."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from k2_ingest.sequence import Arrival, SequenceTracker


def test_an_unbroken_run_has_nothing_to_tell() -> None:
    tracker = SequenceTracker()
    assert {tracker.observe(number) for number in range(5, 100)} == {Arrival.IN_ORDER}
    assert (tracker.next_id, tracker.missing, tracker.duplicates) == (100, [], 0)


def test_a_jump_is_a_gap_with_its_range() -> None:
    tracker = SequenceTracker(10)
    assert tracker.observe(10) is Arrival.IN_ORDER
    assert tracker.observe(15) is Arrival.AFTER_GAP
    assert (tracker.missing, tracker.missing_count, tracker.gaps_opened) == ([(11, 15)], 4, 1)


def test_a_restart_continues_where_the_log_ends() -> None:
    tracker = SequenceTracker(next_id=100)
    assert tracker.observe(103) is Arrival.AFTER_GAP
    assert tracker.missing == [(100, 103)]


def test_late_ids_close_a_gap_piece_by_piece() -> None:
    tracker = SequenceTracker(0)
    tracker.observe(5)
    assert [tracker.observe(number) for number in (2, 0, 4)] == [Arrival.LATE] * 3
    assert tracker.missing == [(1, 2), (3, 4)]
    assert [tracker.observe(number) for number in (1, 3)] == [Arrival.LATE] * 2
    assert (tracker.missing, tracker.duplicates, tracker.gaps_opened) == ([], 0, 1)


def test_an_id_that_comes_again_is_counted() -> None:
    tracker = SequenceTracker(0)
    for number in (0, 1, 5):
        tracker.observe(number)
    assert [tracker.observe(number) for number in (5, 0)] == [Arrival.DUPLICATE] * 2
    assert tracker.duplicates == 2


def test_an_id_before_the_first_is_a_duplicate_of_the_log() -> None:
    assert SequenceTracker(100).observe(99) is Arrival.DUPLICATE


@given(st.lists(st.integers(min_value=0, max_value=60)))
def test_what_is_missing_is_exactly_what_did_not_come(ids: list[int]) -> None:
    tracker = SequenceTracker(0)
    for number in ids:
        tracker.observe(number)
    missing = {number for start, end in tracker.missing for number in range(start, end)}
    assert missing == set(range(max(ids, default=-1) + 1)) - set(ids)
    assert tracker.missing_count == len(missing)
    assert tracker.duplicates == len(ids) - len(set(ids))
    assert tracker.missing == sorted(tracker.missing)
    runs = "".join("x" if number in missing else " " for number in range(61)).split()
    assert tracker.longest_gap == max(map(len, runs), default=0)
