"""The commit protocol, pure: may this batch be committed on this head, and what did a failed attempt leave behind?

Decisions are by positions alone: a batch says where in the log it starts and ends, the table's state says how far each
partition was taken in. Nothing here talks to Kafka or a catalog: `k2_sink.commit` reads heads and carries decisions
out. The rules are those of docs/architecture.md, "Exactly once".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from k2_core.errors import StateError
from k2_core.state import CommitState, PartitionState
from k2_core.types import Offset, Partition, SnapshotId, TopicId, TopicName

LogPartition = tuple[TopicName, Partition]


@dataclass(frozen=True, slots=True)
class Head:
    """A table as one load of it showed it.

    Args:
        snapshot_id: The newest snapshot, or None for a table without any.
        sequence_number: Iceberg's sequence number of that snapshot, 0 without one.
        snapshots: The ids that the metadata still lists.
        ancestors: The head and those of its ancestors that are still listed.
        owner: The pipeline that the table belongs to, or None if nobody said.
        state: The table's commit state, or None if it has none.
        state_snapshot: The snapshot in which that state was written, with its sequence number.
    """

    snapshot_id: SnapshotId | None
    sequence_number: int
    snapshots: Set[SnapshotId]
    ancestors: Set[SnapshotId]
    owner: str | None
    state: CommitState | None
    state_snapshot: tuple[SnapshotId, int] | None


@dataclass(frozen=True, slots=True)
class Span:
    """What a batch takes of one partition: offsets [start, end), and those of them that become no row."""

    start: Offset
    end: Offset
    duplicates: int = 0
    dead_letters: int = 0
    markers: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a batch wants to commit.

    Args:
        cluster_id: The Kafka cluster that it was read from.
        topic_ids: The id of each topic that it was read from.
        spans: What it takes of each partition that it owns; at least one.
        batch_id: For people.
        epoch: Of the state from which its positions were taken.
    """

    cluster_id: str
    topic_ids: Mapping[TopicName, TopicId]
    spans: Mapping[LogPartition, Span]
    batch_id: str
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Proceed:
    """Commit on exactly this head, with this state."""

    state: CommitState


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another writer moved a partition: drop the batch and read on from here."""

    positions: Mapping[LogPartition, Offset]


@dataclass(frozen=True, slots=True)
class Fenced:
    """Somebody has recovered the table since the batch was begun: drop it, and take its partitions over anew."""

    epoch: int


class Outcome(enum.Enum):
    """What an attempt that did not clearly succeed left behind."""

    LANDED = "landed"
    """Every partition stands at the batch's end: the rows are in."""
    UNMOVED = "unmoved"
    """Every partition stands where the batch starts: try again, on the head as it is now."""
    SUPERSEDED = "superseded"
    """Anything else: another writer has been here."""


def current_state(head: Head, pipeline_uid: str, cluster_id: str) -> CommitState:
    """Return the state that a table stands for, which for an empty one is the beginning.

    Raises:
        StateError: The table belongs to another pipeline, was rolled back by another tool, has rows but no state, or
            its offsets are those of another cluster.
    """
    if head.owner != pipeline_uid:
        raise StateError(
            f"table owner: found pipeline {head.owner or 'nobody'}, expected {pipeline_uid}; "
            "use another spec.namespace, or hand the table over: `k2 adopt`"
        )
    if head.state is None:
        if head.snapshot_id is None:
            return CommitState(cluster_id)
        raise StateError(
            f"commit state: found none on a table with snapshot {head.snapshot_id}, expected the property k2.state; "
            "to have one written, after it was shown: `k2 adopt`"
        )
    _require_lineage(head)
    if head.state.cluster_id != cluster_id:
        raise StateError(
            f"Kafka cluster: found {cluster_id}, expected {head.state.cluster_id} whose offsets the table holds; "
            f"to record the change and the loss, and go on: `{adopt_topic(*sorted(head.state.topics))}`"
        )
    return head.state


def _require_lineage(head: Head) -> None:
    """Refuse a head that does not descend from the snapshot in which its state was written.

    That snapshot may be gone because it expired; then the head must at least not be older than it was.
    """
    if head.state_snapshot is None:
        raise StateError(
            "commit state: found no snapshot for it, expected the property k2.state-snapshot; "
            "to have it written, after it was shown: `k2 adopt`"
        )
    written_in, sequence_number = head.state_snapshot
    expired = written_in not in head.snapshots and head.sequence_number >= sequence_number
    if written_in not in head.ancestors and not expired:
        raise StateError(
            f"head: found snapshot {head.snapshot_id}, expected a descendant of {written_in} in which the commit state "
            "was written; the table was rolled back by another tool. To accept the head as it is: `k2 adopt`; to go "
            f"back to where the state was written: `k2 rollback --to {written_in}`"
        )


def adopt_topic(*topics: TopicName) -> str:
    """Return the command that accepts what is lost of these topics."""
    return " ".join(["k2 adopt-topic", *topics])


def starting_positions(
    state: CommitState,
    topic_ids: Mapping[TopicName, TopicId],
    log_starts: Mapping[LogPartition, Offset],
    ends: Mapping[LogPartition, Offset],
) -> dict[LogPartition, Offset]:
    """Return where to read each partition from: where the table stands, or the log's start where it has nothing.

    Args:
        state: Of the table.
        topic_ids: Of the topics as they are now.
        log_starts: The first offset that each partition still has; says which partitions are asked for.
        ends: Each partition's last stable offset.

    Raises:
        StateError: A topic was deleted and made again, or a log begins after, or ends before, where the table stands.
    """
    for name, topic in state.topics.items():
        if name in topic_ids and topic.id != topic_ids[name]:
            raise StateError(
                f"topic {name}: found id {topic_ids[name]}, expected {topic.id}; it was deleted and made again. "
                f"To record what is lost, and go on: `{adopt_topic(name)}`"
            )
    positions: dict[LogPartition, Offset] = {}
    for (name, partition), log_start in log_starts.items():
        known = state.partition(name, partition)
        position = known.next if known else log_start
        if not log_start <= position <= ends[name, partition]:
            raise StateError(
                f"topic {name} partition {partition}: found a log of [{log_start}, {ends[name, partition]}), expected "
                f"it to hold offset {position} where the table stands. "
                + _way_out(name, truncated=position > ends[name, partition])
            )
        positions[name, partition] = position
    return positions


def _way_out(topic: TopicName, *, truncated: bool) -> str:
    if truncated:  # new records would take positions that rows of the table have
        return f"The brokers lost records: delete the topic, then make it again and go on: `{adopt_topic(topic)}`"
    return f"To record what is lost, and go on: `{adopt_topic(topic)}`"


def decide(state: CommitState, claim: Claim) -> Proceed | Superseded | Fenced:
    """Say whether a batch follows on from a state, and if so what the state becomes.

    Partitions that the batch does not own are carried over as they are. Positions of another epoch, or of another
    topic of the same name, do not compare: the same number means another record, or the same one before a rollback.
    """
    if state.epoch != claim.epoch or _other_topics(state, claim):
        return Fenced(state.epoch)
    moved = {
        at: known.next
        for at, span in claim.spans.items()
        if (known := state.partition(*at)) is not None and known.next != span.start
    }
    if moved:
        return Superseded({at: moved.get(at, span.start) for at, span in claim.spans.items()})
    for name, topic_id in claim.topic_ids.items():
        changed = {
            partition: _advance(state.partition(topic, partition), span)
            for (topic, partition), span in claim.spans.items()
            if topic == name
        }
        if changed:
            state = state.with_partitions(name, topic_id, changed, claim.batch_id)
    return Proceed(state)


def _other_topics(state: CommitState, claim: Claim) -> bool:
    return any(name in state.topics and state.topics[name].id != found for name, found in claim.topic_ids.items())


def _advance(known: PartitionState | None, span: Span) -> PartitionState:
    before = known or PartitionState(next=span.start, origin=span.start)
    return replace(
        before,
        next=span.end,
        duplicates=before.duplicates + span.duplicates,
        dead_letters=before.dead_letters + span.dead_letters,
        markers=before.markers + span.markers,
    )


def judge(state: CommitState, claim: Claim) -> Outcome:
    """Say what an attempt left behind, from the state of a head that was loaded after it."""
    moving = {at: span for at, span in claim.spans.items() if span.end > span.start}
    comparable = not isinstance(decide(state, claim), Fenced)
    if comparable and all(_stands_at(state, at, span.end) for at, span in moving.items()):
        return Outcome.LANDED
    if isinstance(decide(state, claim), Proceed):
        return Outcome.UNMOVED
    return Outcome.SUPERSEDED


def _stands_at(state: CommitState, at: LogPartition, offset: Offset) -> bool:
    known = state.partition(*at)
    return known is not None and known.next == offset
