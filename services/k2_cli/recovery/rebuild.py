"""What a recovery makes of a table's commit state: rebuilt, carried over to a topic that was made again, or restored.

Pure: called by `k2 adopt`, `k2 adopt-topic` and `k2 rollback` with what they found in the table and in Kafka. Every
result balances (see `k2_core.state`), so that `k2 audit` proves it; what cannot be made to balance is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from k2_cli.completeness import Held, Position
from k2_core.errors import SpecError, StateError
from k2_core.intervals import IntervalSet
from k2_core.state import LOG_START, CommitState, LedgerEntry, Loss, PartitionState, TopicState, owed_records
from k2_core.types import Offset, Partition, TopicId, TopicName

Partitions = Mapping[Partition, PartitionState]


@dataclass(frozen=True, slots=True)
class TopicNow:
    """A topic as the brokers describe it: its id, and where each partition starts and stably ends.

    Args:
        id: Of the topic.
        starts: The first offset that each partition still has.
        ends: Its last stable offset.
        left: The records that the log still has of each ledger entry, see `entries_to_count`.
    """

    id: TopicId
    starts: Mapping[Partition, Offset]
    ends: Mapping[Partition, Offset]
    left: Mapping[LedgerEntry, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """What a table's rows say of the log.

    Args:
        held: Rows and offsets by topic id and partition.
        names: The topic that each topic id belongs to, by the rows' venue.
    """

    held: Mapping[Position, Held]
    names: Mapping[TopicId, TopicName]

    def of(self, topic_id: TopicId) -> dict[Partition, Held]:
        """Return what there is of one topic id."""
        return {Partition(number): held for (found, number), held in self.held.items() if found == topic_id}


def from_rows(rows: Rows, cluster_id: str, ids_now: Mapping[TopicName, TopicId]) -> CommitState:
    """Return a state for a table of which nothing but its rows is left.

    `next` is the offset after a partition's last row: a sink commits a partition in its order, so everything before is
    in the table or became no row; what was taken in after it became no row either, and is read and left out again.
    Offsets without a row count as unexplained, since nobody can say any more what became of them.

    Args:
        rows: Of the table.
        cluster_id: The Kafka cluster that they are said to come from.
        ids_now: Of the topics as they are now. Where the rows are all of older topics of that name, the one with the
            most rows stands for it, so that the sink refuses and `k2 adopt-topic` closes it.
    """
    topics: dict[TopicName, TopicState] = {}
    for name in sorted(set(rows.names.values())):
        sizes = {found: sum(held.rows for held in rows.of(found).values()) for found in _ids(rows, name)}
        current = ids_now.get(name)
        topics[name] = TopicState(current if current in sizes else max(sorted(sizes), key=sizes.__getitem__))
    return balanced(CommitState(cluster_id, topics), rows)


def _ids(rows: Rows, name: TopicName) -> list[TopicId]:
    return [found for found, of in rows.names.items() if of == name]


def balanced(state: CommitState, rows: Rows) -> CommitState:
    """Return the state made to agree with a table's rows, which another tool may have changed since it was written.

    Raises:
        StateError: Rows are there twice, or behind the state's end with others missing before them.
    """
    topics = dict(state.topics)
    for name in sorted({*topics, *rows.names.values()}):
        ids = _ids(rows, name)
        before = topics.get(name) or TopicState(ids[0])
        former = {found: before.former.get(found, {}) for found in {*before.former, *ids} - {before.id}}
        topics[name] = replace(
            before,
            partitions=_balanced(state, name, before.partitions, rows.of(before.id)),
            former={found: _balanced(None, name, known, rows.of(found)) for found, known in former.items()},
        )
    return replace(state, topics=topics)


def _balanced(
    state: CommitState | None, name: TopicName, known: Partitions, held: Mapping[Partition, Held]
) -> dict[Partition, PartitionState]:
    """Return the accounts of one topic id; `state` is None for one that is closed, of which no ledger speaks."""
    found: dict[Partition, PartitionState] = {}
    for partition in sorted({*known, *held}):
        where = f"topic {name} partition {partition}"
        rows = held.get(partition, Held())
        owed = owed_records(state.deferred(name, partition)) if state is not None else 0
        found[partition] = _account(where, known.get(partition), rows, owed)
    return found


def _account(where: str, known: PartitionState | None, rows: Held, deferred: int) -> PartitionState:
    if rows.repeated:
        raise StateError(f"{where}: found {rows.repeated} rows at positions of others, expected each once; {_BACK}")
    first, last = rows.numbers.first, rows.numbers.last
    if known is None or first is None or last is None:
        known = known or PartitionState(Offset((last or 0) + 1), Offset(first or 0))
    else:
        beyond = IntervalSet.of_ranges([(known.next, last + 1)]).minus(rows.numbers)
        if len(beyond):
            raise StateError(
                f"{where}: found rows up to offset {last} and none at {next(iter(beyond))[0]}, "
                f"expected all from {known.next}, where the state ends; {_BACK}"
            )
        known = replace(known, next=Offset(max(known.next, last + 1)), origin=Offset(min(known.origin, first)))
    unexplained = replace(known, unexplained=0).rows(deferred) - rows.rows
    if unexplained < 0:
        raise StateError(f"{where}: found {-unexplained} rows more than the state has room for; {_BACK}")
    return replace(known, unexplained=unexplained)


_BACK = "go back to a snapshot that K2 wrote, and read the log again from there: `k2 rollback --to SNAPSHOT`"


def with_topic(state: CommitState, name: TopicName, now: TopicNow, reason: str) -> CommitState:
    """Return the state that accepts what a topic has lost; the same state if nothing is lost.

    Raises:
        SpecError: The state knows no such topic.
        StateError: The log ends before `next`.
    """
    known = state.topics.get(name)
    if known is None:
        raise SpecError("TOPIC", repr(name), f"one that the table has rows of: {', '.join(sorted(state.topics))}")
    if known.id == now.id:
        return _past_retention(_without_lost_entries(state, name, now, reason), name, now, reason)
    state = _forgiven(state, {entry: None for entry in state.open_ledger if entry.topic == name}, reason)
    known = state.topics[name]
    losses = [Loss(name, known.id, at, one.next, None, reason) for at, one in sorted(known.partitions.items())]
    fresh = {at: _begun(start) for at, start in now.starts.items()}
    losses += [Loss(name, now.id, at, LOG_START, start, reason) for at, start in sorted(now.starts.items()) if start]
    topic = TopicState(now.id, fresh, {**known.former, known.id: known.partitions})
    return replace(state, topics={**state.topics, name: topic}, losses=(*state.losses, *losses))


def _begun(start: Offset) -> PartitionState:
    return PartitionState(start, LOG_START, lost=start)


def entries_to_count(state: CommitState, name: TopicName, now: TopicNow) -> dict[LedgerEntry, Offset]:
    """Return the topic's open ledger entries of which the log has something, with where that begins in each.

    What raw files hold is left out: it is not lost with the log. How many records it is can only be counted in the log:
    the caller does, for `TopicNow.left`.
    """
    starts = {entry: now.starts.get(entry.partition, entry.start) for entry in _in_the_log_alone(state, name)}
    return {entry: max(entry.start, start) for entry, start in starts.items() if start < entry.end}


def _in_the_log_alone(state: CommitState, name: TopicName) -> list[LedgerEntry]:
    return [entry for entry in state.open_ledger if entry.topic == name and entry.raw_file is None]


def _without_lost_entries(state: CommitState, name: TopicName, now: TopicNow, reason: str) -> CommitState:
    counted = entries_to_count(state, name, now)
    changed: dict[LedgerEntry, LedgerEntry | None] = {}
    for entry in _in_the_log_alone(state, name):
        start, left = counted.get(entry, entry.end), now.left[entry] if entry in counted else 0
        if left > entry.records:
            raise StateError(
                f"topic {name} partition {entry.partition}: found {left} records in offsets [{start}, {entry.end}), "
                f"expected no more than the {entry.records} that are owed; {_BACK}"
            )
        if (start, left) != (entry.start, entry.records):
            changed[entry] = replace(entry, start=start, records=left) if left else None
    return _forgiven(state, changed, reason)


def _forgiven(state: CommitState, changed: Mapping[LedgerEntry, LedgerEntry | None], reason: str) -> CommitState:
    """Return the state with ledger entries replaced by what is left of them; the records between are lost."""
    for entry, left in changed.items():
        topic = state.topics[entry.topic]
        known = topic.partitions[entry.partition]
        lost = entry.records - (left.records if left is not None else 0)
        partitions = {**topic.partitions, entry.partition: replace(known, lost=known.lost + lost)}
        end = left.start if left is not None and left.start > entry.start else entry.end
        loss = Loss(entry.topic, topic.id, entry.partition, entry.start, end, f"{reason}: {lost} deferred records")
        state = replace(
            state,
            topics={**state.topics, entry.topic: replace(topic, partitions=partitions)},
            losses=(*state.losses, loss),
        )
    ledger = [changed.get(entry, entry) for entry in state.open_ledger]
    return replace(state, open_ledger=tuple(entry for entry in ledger if entry is not None)) if changed else state


def _past_retention(state: CommitState, name: TopicName, now: TopicNow, reason: str) -> CommitState:
    known = state.topics[name]
    changed: dict[Partition, PartitionState] = {}
    losses: list[Loss] = []
    for partition, one in sorted(known.partitions.items()):
        start, end = now.starts.get(partition, one.next), now.ends.get(partition, one.next)
        if end < one.next:
            raise StateError(
                f"topic {name} partition {partition}: found a log that ends at {end}, expected at least {one.next} "
                "where the table stands; new records would take positions that rows have: delete the topic, and run "
                "this again"
            )
        if start > one.next:
            changed[partition] = replace(one, next=start, lost=one.lost + start - one.next)
            losses.append(Loss(name, known.id, partition, one.next, start, reason))
    if not changed:
        return state
    after = state.with_partitions(name, known.id, changed, state.batch_id)
    return replace(after, losses=(*state.losses, *losses))


def restored(target: CommitState, head: CommitState | None) -> CommitState:
    """Return the state of an older snapshot, for a table that goes back to it.

    A partition that the table has begun only since is kept at its beginning: forgotten, it would be begun where a sink
    that still reads it happens to be.
    """
    topics = dict(target.topics)
    for name, topic in (head.topics if head is not None else {}).items():
        at_start = {at: PartitionState(one.origin, one.origin) for at, one in topic.partitions.items()}
        if name not in topics:
            topics[name] = TopicState(topic.id, at_start)
        elif topics[name].id == topic.id:
            topics[name] = replace(topics[name], partitions=at_start | dict(topics[name].partitions))
    return replace(target, topics=topics)


def next_epoch(states: Iterable[CommitState]) -> int:
    """Return an epoch that no writer of this table can have seen."""
    return 1 + max((state.epoch for state in states), default=0)
