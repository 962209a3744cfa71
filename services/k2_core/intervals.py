"""Sets of integers as half-open intervals: exact dedup, the list of gaps and the proof of completeness in one.

Where a venue counts its trades without gaps per symbol, a set of ids takes as much memory as it has gaps, whatever the
number of trades. Used by ingest (sequences), sink (dedup), audit and the tests' oracles. Pure; values are int64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

Int64s: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
Bools: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]


def _empty() -> Int64s:
    return np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class IntervalSet:
    """A set of int64 as disjoint, sorted, never touching intervals [start, end).

    Immutable in use: every operation returns a new set, so that a reader needs no lock.
    """

    starts: Int64s = field(default_factory=_empty)
    ends: Int64s = field(default_factory=_empty)

    @classmethod
    def of_ranges(cls, ranges: Iterable[tuple[int, int]]) -> IntervalSet:
        """Return the set of half-open ranges, in any order, overlapping or not; empty ones are dropped."""
        pairs = np.array([pair for pair in ranges if pair[0] < pair[1]], dtype=np.int64).reshape(-1, 2)
        return cls(*_merge(pairs[:, 0], pairs[:, 1]))

    @classmethod
    def of_values(cls, values: Int64s) -> IntervalSet:
        """Return the set of these values, in any order, repeated or not."""
        unique = values if increasing(values) else np.unique(values)
        if unique.size == 0:
            return cls()
        breaks = np.flatnonzero(np.diff(unique) != 1)
        starts = unique[np.concatenate(([0], breaks + 1))]
        ends = unique[np.concatenate((breaks, [unique.size - 1]))] + 1
        return cls(starts, ends)

    def union(self, other: IntervalSet) -> IntervalSet:
        """Return the values that are in either."""
        if not other.starts.size:
            return self
        if not self.starts.size:
            return other
        return IntervalSet(
            *_merge(np.concatenate((self.starts, other.starts)), np.concatenate((self.ends, other.ends)))
        )

    def minus(self, other: IntervalSet) -> IntervalSet:
        """Return the values that are here and not in the other."""
        return IntervalSet.of_ranges(_subtract(list(self), list(other)))

    def contains(self, values: Int64s) -> Bools:
        """Return for each value whether it is in the set."""
        if not self.starts.size:
            return np.zeros(values.shape, dtype=np.bool_)
        at = np.searchsorted(self.starts, values, side="right") - 1
        inside: Bools = (at >= 0) & (values < self.ends[np.maximum(at, 0)])
        return inside

    def gaps(self) -> list[tuple[int, int]]:
        """Return what is missing between the first and the last value, as half-open ranges."""
        return list(zip(self.ends[:-1].tolist(), self.starts[1:].tolist(), strict=True))

    @property
    def first(self) -> int | None:
        """The smallest value, or None if the set is empty."""
        return int(self.starts[0]) if self.starts.size else None

    @property
    def last(self) -> int | None:
        """The largest value, or None if the set is empty."""
        return int(self.ends[-1]) - 1 if self.ends.size else None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    def __len__(self) -> int:
        """Return the number of values, not of intervals."""
        return int((self.ends - self.starts).sum())

    def __contains__(self, value: int) -> bool:
        return bool(self.contains(np.array([value], dtype=np.int64))[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntervalSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares by content that may be large


def increasing(values: Int64s) -> bool:
    """Return whether each value is larger than the one before, as ids nearly always are: then none repeats."""
    return bool(np.all(values[1:] > values[:-1]))


def _merge(starts: Int64s, ends: Int64s) -> tuple[Int64s, Int64s]:
    if not starts.size:
        return _empty(), _empty()
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    new = np.concatenate(([True], starts[1:] > ends[:-1]))  # touching ranges are one
    last = np.concatenate((np.flatnonzero(new)[1:] - 1, [starts.size - 1]))
    return starts[new], ends[last]


def _subtract(ranges: list[tuple[int, int]], holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in ranges:
        cursor = start
        while at < len(holes) and holes[at][1] <= cursor:
            at += 1
        scan = at
        while scan < len(holes) and holes[scan][0] < end:
            if holes[scan][0] > cursor:
                yield cursor, holes[scan][0]
            cursor = max(cursor, holes[scan][1])
            scan += 1
        if cursor < end:
            yield cursor, end
