"""IntervalSet at its edges; tests/property/test_intervals.py compares it with Python's sets."""

from __future__ import annotations

import numpy as np
import pytest

from k2_core.intervals import IntervalSet, increasing

INT64_MAX = 2**63 - 1


def array(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


class TestEmpty:
    def test_it_holds_nothing(self) -> None:
        empty = IntervalSet()
        assert (list(empty), len(empty), empty.first, empty.last, empty.gaps()) == ([], 0, None, None, [])
        assert 0 not in empty

    @pytest.mark.parametrize(
        "empty",
        [
            pytest.param(IntervalSet.of_values(array()), id="no-values"),
            pytest.param(IntervalSet.of_ranges([]), id="no-ranges"),
            pytest.param(IntervalSet.of_ranges([(3, 3), (9, 2)]), id="empty-ranges"),
        ],
    )
    def test_every_way_to_make_it_is_equal(self, empty: IntervalSet) -> None:
        assert empty == IntervalSet()

    def test_union_with_it_is_the_other(self) -> None:
        some = IntervalSet.of_ranges([(1, 3)])
        assert some.union(IntervalSet()) == some
        assert IntervalSet().union(some) == some

    def test_contains_asked_for_no_values(self) -> None:
        assert IntervalSet.of_ranges([(1, 3)]).contains(array()).tolist() == []


class TestIntervals:
    def test_touching_ranges_are_one(self) -> None:
        assert list(IntervalSet.of_ranges([(5, 7), (1, 5)])) == [(1, 7)]

    def test_repeated_values_count_once(self) -> None:
        assert list(IntervalSet.of_values(array(3, 1, 2, 3, 3, 9))) == [(1, 4), (9, 10)]

    def test_gaps_are_between_first_and_last_only(self) -> None:
        assert IntervalSet.of_values(array(1, 2, 5, 9)).gaps() == [(3, 5), (6, 9)]

    def test_the_ends_of_an_interval(self) -> None:
        some = IntervalSet.of_ranges([(10, 20)])
        assert some.contains(array(9, 10, 19, 20)).tolist() == [False, True, True, False]
        assert 19 in some
        assert 20 not in some

    def test_one_hole_across_several_intervals(self) -> None:
        some = IntervalSet.of_ranges([(0, 4), (6, 10), (12, 16)])
        assert list(some.minus(IntervalSet.of_ranges([(2, 14)]))) == [(0, 2), (14, 16)]

    def test_several_holes_in_one_interval(self) -> None:
        some = IntervalSet.of_ranges([(0, 10)])
        assert list(some.minus(IntervalSet.of_ranges([(0, 1), (3, 5), (9, 12)]))) == [(1, 3), (5, 9)]

    def test_ids_of_a_real_venue_are_far_from_the_limit_and_exact(self) -> None:
        first = 3_735_683_259
        some = IntervalSet.of_values(np.arange(first, first + 1_000_000, dtype=np.int64))
        assert (len(some.starts), len(some), some.first, some.last) == (1, 1_000_000, first, first + 999_999)

    def test_the_largest_id_that_fits(self) -> None:
        some = IntervalSet.of_values(array(INT64_MAX - 1))
        assert (some.last, INT64_MAX - 1 in some) == (INT64_MAX - 1, True)


class TestIdentity:
    def test_it_differs_from_anything_else(self) -> None:
        assert IntervalSet() != []

    def test_it_has_no_hash(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            hash(IntervalSet())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param((), True, id="none"),
        pytest.param((5,), True, id="one"),
        pytest.param((1, 2, 9), True, id="rising"),
        pytest.param((1, 1), False, id="repeated"),
        pytest.param((2, 1), False, id="falling"),
    ],
)
def test_increasing(values: tuple[int, ...], expected: bool) -> None:
    assert increasing(array(*values)) is expected
