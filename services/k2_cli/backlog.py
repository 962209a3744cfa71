"""How far a pipeline is behind its log, per partition. Pure; called by `k2 lag` and by tests.

Two distances that are easily confused: *unread* (end - read position, not yet looked at by a sink) decides about load;
*uncommitted* (end - next, what the table does not hold) decides what a reader of the table alone does not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k2_core.types import Offset, Partition, TopicName


@dataclass(frozen=True, slots=True)
class Backlog:
    """One partition; None is what could not be known, and never 0.

    Args:
        topic: With `partition` where.
        partition: See `topic`.
        start: First offset that the log still has.
        end: Last stable offset.
        read: Where the sinks read, as they wrote it down; None if no sink ever did.
        next: Where the table stands; None if it has taken nothing of the partition in.
    """

    topic: TopicName
    partition: Partition
    start: Offset
    end: Offset
    read: Offset | None
    next: Offset | None

    @property
    def unread(self) -> int | None:
        """Records between the read position and the end."""
        return None if self.read is None else max(0, self.end - self.read)

    @property
    def uncommitted(self) -> int | None:
        """Records between the table's position and the end."""
        return None if self.next is None else max(0, self.end - self.next)


def backlogs(
    topic: TopicName,
    starts: Mapping[Partition, Offset],
    ends: Mapping[Partition, Offset],
    read: Mapping[Partition, Offset],
    taken: Mapping[Partition, Offset],
) -> list[Backlog]:
    """Return a topic's partitions in order, from what Kafka and the table's state say of them."""
    return [Backlog(topic, at, starts[at], ends[at], read.get(at), taken.get(at)) for at in sorted(ends)]


def total(values: list[int | None]) -> int | None:
    """Return a sum, or None if a part of it is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
