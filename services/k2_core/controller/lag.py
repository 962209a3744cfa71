"""How far a pipeline is behind its log: unread and uncommitted, in records and as an age, by partition and in all.

*Unread* (end - read position) decides about load; *uncommitted* (end - the table's position) is what a reader of the
table alone does not see, beside what levels put off. *Committed age* is how long ago the table was last told to hold
something of it. What is not known is None and never 0. Made by `look`, used by the controller and `k2 lag`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from k2_core.types import Offset, Partition, TopicName

LogPartition = tuple[TopicName, Partition]
Positions = Mapping[LogPartition, Offset]
NOTHING_S: Final = 0.0
"""The age of the oldest of no records."""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition.

    Args:
        at: Which.
        start: The first offset that the log still has.
        end: The last stable offset.
        read: Where the sinks read; None if no sink ever told.
        committed: Where the table stands; None if no sink ever told.
        unread_age_s: Age of the oldest unread record; 0 if there is none, None if it is not known.
        uncommitted_age_s: The same for what is not in the table.
        committed_age_s: Seconds since the last commit that a sink told of it; None if none ever told.
    """

    at: LogPartition
    start: Offset
    end: Offset
    read: Offset | None
    committed: Offset | None
    unread_age_s: float | None = None
    uncommitted_age_s: float | None = None
    committed_age_s: float | None = None

    @property
    def unread(self) -> int | None:
        """Records that no sink has read."""
        return _between(self.start, self.end, self.read)

    @property
    def uncommitted(self) -> int | None:
        """Records that are not in the table."""
        return _between(self.start, self.end, self.committed)


@dataclass(frozen=True, slots=True)
class Lag:
    """A topic or a whole pipeline.

    Args:
        unread: Sum of the records; None where a part is not known.
        uncommitted: The same.
        unread_age_s: The greatest of the ages; None where a part is not known.
        uncommitted_age_s: The same.
        committed_age_s: Seconds since the newest commit of any part; None if no sink ever told of one.
    """

    unread: int | None
    uncommitted: int | None
    unread_age_s: float | None
    uncommitted_age_s: float | None
    committed_age_s: float | None = None


UNKNOWN: Final = Lag(None, None, None, None)


def total(partitions: Sequence[PartitionLag]) -> Lag:
    """Return the lag of some partitions together."""
    return Lag(
        unread=_sum(one.unread for one in partitions),
        uncommitted=_sum(one.uncommitted for one in partitions),
        unread_age_s=_greatest(one.unread_age_s for one in partitions),
        uncommitted_age_s=_greatest(one.uncommitted_age_s for one in partitions),
        committed_age_s=min(
            (one.committed_age_s for one in partitions if one.committed_age_s is not None), default=None
        ),
    )


def by_topic(partitions: Iterable[PartitionLag]) -> dict[TopicName, Lag]:
    """Return the lag of each topic."""
    members: dict[TopicName, list[PartitionLag]] = {}
    for one in partitions:
        members.setdefault(one.at[0], []).append(one)
    return {topic: total(parts) for topic, parts in members.items()}


def partition_lags(
    starts: Positions,
    ends: Positions,
    read: Positions,
    committed: Positions,
    age_s: Callable[[LogPartition, Offset], float | None],
) -> list[PartitionLag]:
    """Return the lag of each partition, in order.

    Args:
        starts: First offsets.
        ends: Last stable offsets.
        read: Read positions that are known.
        committed: The table's positions that are known.
        age_s: Returns the age of the record at a position before the end, in seconds; None if it is not known.
    """
    found = []
    for at in sorted(ends):
        start, end = starts.get(at, Offset(0)), ends[at]
        ages = [_age(at, start, end, positions.get(at), age_s) for positions in (read, committed)]
        found.append(PartitionLag(at, start, end, read.get(at), committed.get(at), *ages))
    return found


def wanted_ages(starts: Positions, ends: Positions, positions: Positions) -> dict[LogPartition, Offset]:
    """Return where the records stand whose age says how old a lag is."""
    first = {at: max(position, starts.get(at, position)) for at, position in positions.items()}
    return {at: position for at, position in first.items() if at in ends and position < ends[at]}


def _age(
    at: LogPartition,
    start: Offset,
    end: Offset,
    position: Offset | None,
    age_s: Callable[[LogPartition, Offset], float | None],
) -> float | None:
    behind = _between(start, end, position)
    if behind == 0:
        return NOTHING_S
    return None if position is None else age_s(at, max(position, start))


def _between(start: Offset, end: Offset, position: Offset | None) -> int | None:
    if position is None:
        return 0 if end <= start else None  # an empty partition keeps nobody waiting
    return max(0, end - max(position, start))


def _sum(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _greatest(values: Iterable[float | None]) -> float | None:
    greatest = NOTHING_S
    for value in values:
        if value is None:
            return None
        greatest = max(greatest, value)
    return greatest
