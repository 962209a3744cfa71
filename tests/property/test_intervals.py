"""IntervalSet against Python's own sets, on whatever Hypothesis finds."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from k2_core.intervals import IntervalSet, increasing

VALUES = st.lists(st.integers(-30, 60), max_size=40)
RANGES = st.lists(st.tuples(st.integers(-30, 60), st.integers(-30, 60)), max_size=12)
PROBES = np.arange(-40, 80, dtype=np.int64)


def of_values(values: list[int]) -> IntervalSet:
    return IntervalSet.of_values(np.array(values, dtype=np.int64))


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {value for start, end in ranges for value in range(start, end)}


def check(found: IntervalSet, expected: set[int]) -> None:
    """The content, and the form: sorted, disjoint, never touching, never empty."""
    ranges = list(found)
    assert members(ranges) == expected
    assert len(found) == len(expected)
    assert all(start < end for start, end in ranges)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    assert found.first == min(expected, default=None)
    assert found.last == max(expected, default=None)
    assert PROBES[found.contains(PROBES)].tolist() == sorted(expected)


@given(VALUES)
def test_of_values(values: list[int]) -> None:
    check(of_values(values), set(values))


@given(st.sets(st.integers(-30, 60)))
def test_of_values_that_are_sorted_already(values: set[int]) -> None:
    check(of_values(sorted(values)), values)


@given(RANGES)
@example([(0, 10), (2, 3), (5, 6)])  # a long one hides later short ones
def test_of_ranges(ranges: list[tuple[int, int]]) -> None:
    check(IntervalSet.of_ranges(ranges), members(ranges))


@given(VALUES, VALUES)
def test_union(left: list[int], right: list[int]) -> None:
    check(of_values(left).union(of_values(right)), set(left) | set(right))


@given(VALUES, VALUES)
def test_minus(left: list[int], right: list[int]) -> None:
    check(of_values(left).minus(of_values(right)), set(left) - set(right))


@given(VALUES, VALUES)
def test_operands_stay_as_they_were(left: list[int], right: list[int]) -> None:
    first, second = of_values(left), of_values(right)
    first.union(second)
    first.minus(second)
    check(first, set(left))
    check(second, set(right))


@given(VALUES)
def test_gaps_and_values_together_leave_no_hole(values: list[int]) -> None:
    found = of_values(values)
    expected = set(range(min(values), max(values) + 1)) - set(values) if values else set()
    assert members(found.gaps()) == expected


@given(VALUES, VALUES)
def test_equal_exactly_when_the_values_are(left: list[int], right: list[int]) -> None:
    assert (of_values(left) == of_values(right)) is (set(left) == set(right))


@given(st.lists(VALUES, max_size=6))
def test_the_order_of_unions_does_not_matter(batches: list[list[int]]) -> None:
    forward, backward = IntervalSet(), IntervalSet()
    for batch in batches:
        forward = forward.union(of_values(batch))
    for batch in reversed(batches):
        backward = backward.union(of_values(batch))
    assert forward == backward


@given(VALUES)
def test_increasing(values: list[int]) -> None:
    assert increasing(np.array(values, dtype=np.int64)) is (values == sorted(set(values)))
