"""The commit protocol, pure: may this batch be committed on this head, and what did a failed attempt leave behind?

Decisions are by positions alone: a batch says where in the log it starts and ends, the table's state says how far each
partition was taken in. Nothing here talks to Kafka or a catalog: `k2_sink.commit` reads heads and carries decisions
out. The rules are those of docs/architecture.md, "Exactly once".
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from k2_core.errors import StateError
from k2_core.state import CommitState, LedgerEntry, PartitionState
from k2_core.types import Offset, Partition, SnapshotId, TopicId, TopicName
from k2_sink.ledger import Paid, with_deferred, without_paid

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
    """What a batch takes of one partition: offsets [start, end), and those of them that become no row.

    Args:
        start: Where the table stood when the batch was begun.
        end: Where it is to stand.
        duplicates: Records left out because the table has their id.
        dead_letters: Records that are in the dead-letter topic.
        markers: Offsets without a record.
        ledger: What the table owed of the partition when the batch was begun.
        deferred: What the batch adds to that, in the order of the log.
        own_from: See `ledger.with_deferred`.
    """

    start: Offset
    end: Offset
    duplicates: int = 0
    dead_letters: int = 0
    markers: int = 0
    ledger: tuple[LedgerEntry, ...] = ()
    deferred: tuple[LedgerEntry, ...] = ()
    own_from: Offset | None = field(default=None, compare=False)


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
class Drained:
    """What a drain takes of one partition, whose position it does not move.

    Args:
        next: Where the table stood when the drain compared its ids with the table's.
        ledger: What the table owed of the partition then.
        paid: What is paid of that.
        duplicates: Records among them that are left out because the table has their id.
        dead_letters: Records among them that are in the dead-letter topic.
    """

    next: Offset
    ledger: tuple[LedgerEntry, ...]
    paid: tuple[Paid, ...]
    duplicates: int = 0
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Repayment:
    """What a drain wants to commit: records that were deferred, and the ledger without them.

    Args:
        cluster_id: See `Claim`.
        topic_ids: See `Claim`.
        parts: What it takes of each partition; at least one.
        batch_id: See `Claim`.
        epoch: See `Claim`.
    """

    cluster_id: str
    topic_ids: Mapping[TopicName, TopicId]
    parts: Mapping[LogPartition, Drained]
    batch_id: str
    epoch: int = 0


def repayment(claim: Claim, drained: Mapping[LogPartition, Span], paid: Iterable[Paid]) -> Repayment:
    """Return what a drain wants to commit.

    Args:
        claim: What the owner would commit by itself: nothing, but where its partitions stand.
        drained: What became of the records, by partition; its positions say nothing.
        paid: What is paid, in the order of the log.
    """
    parts: dict[LogPartition, Drained] = {}
    for one in paid:
        at = (one.entry.topic, one.entry.partition)
        stands, became = claim.spans[at], drained[at]
        before = parts[at].paid if at in parts else ()
        parts[at] = Drained(stands.end, stands.ledger, (*before, one), became.duplicates, became.dead_letters)
    return Repayment(claim.cluster_id, claim.topic_ids, parts, claim.batch_id, claim.epoch)


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
        StateError: A topic was deleted and made again, a log begins after, or ends before, where the table stands, or
            it has lost something that is still owed.
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
        _require_owed(state, (name, partition), log_start)
        positions[name, partition] = position
    return positions


def _require_owed(state: CommitState, at: LogPartition, log_start: Offset) -> None:
    """Refuse a log that has lost something which a level deferred, and which is nowhere else."""
    for entry in state.deferred(*at):
        if entry.start < log_start and entry.raw_file is None:
            raise StateError(
                f"topic {at[0]} partition {at[1]}: found a log from {log_start}, expected it to hold offsets "
                f"[{entry.start}, {entry.end}) of which {entry.records} records are owed to the table. "
                + _way_out(at[0], truncated=False)
            )


def _way_out(topic: TopicName, *, truncated: bool) -> str:
    if truncated:  # new records would take positions that rows of the table have
        return f"The brokers lost records: delete the topic, then make it again and go on: `{adopt_topic(topic)}`"
    return f"To record what is lost, and go on: `{adopt_topic(topic)}`"


def decide(state: CommitState, claim: Claim | Repayment) -> Proceed | Superseded | Fenced:
    """Say whether a claim follows on from a state, and if so what the state becomes.

    Partitions that the claim does not own are carried over as they are. Positions of another epoch, or of another
    topic of the same name, do not compare: the same number means another record, or the same one before a rollback.

    A partition stands where its position and its ledger are. Both must be as the claim knew them, for a batch as for a
    drain: each brings ids into the table that the other must have looked at before it chose its own.
    """
    if state.epoch != claim.epoch or _other_topics(state, claim):
        return Fenced(state.epoch)
    standings = _standings(claim)
    positions = {at: _position(state, at, begun) for at, (begun, _) in standings.items()}
    if any((positions[at], state.deferred(*at)) != known for at, known in standings.items()):
        return Superseded(positions)
    return Proceed(_with_batch(state, claim) if isinstance(claim, Claim) else _with_drain(state, claim))


def _standings(claim: Claim | Repayment) -> dict[LogPartition, tuple[Offset, tuple[LedgerEntry, ...]]]:
    if isinstance(claim, Claim):
        return {at: (span.start, span.ledger) for at, span in claim.spans.items()}
    return {at: (part.next, part.ledger) for at, part in claim.parts.items()}


def _position(state: CommitState, at: LogPartition, begun: Offset) -> Offset:
    """Return where a partition stands; one that the table knows nothing of begins where its first batch does."""
    known = state.partition(*at)
    return known.next if known is not None else begun


def _other_topics(state: CommitState, claim: Claim | Repayment) -> bool:
    return any(name in state.topics and state.topics[name].id != found for name, found in claim.topic_ids.items())


def _with_batch(state: CommitState, claim: Claim) -> CommitState:
    for (topic, partition), span in claim.spans.items():
        changed = {partition: _advance(state.partition(topic, partition), span)}
        state = state.with_partitions(topic, claim.topic_ids[topic], changed, claim.batch_id)
        state = replace(state, open_ledger=with_deferred(state.open_ledger, span.deferred, span.own_from))
    return state


def _advance(known: PartitionState | None, span: Span) -> PartitionState:
    before = known or PartitionState(next=span.start, origin=span.start)
    return replace(
        before,
        next=span.end,
        duplicates=before.duplicates + span.duplicates,
        dead_letters=before.dead_letters + span.dead_letters,
        markers=before.markers + span.markers,
    )


def _with_drain(state: CommitState, claim: Repayment) -> CommitState:
    for (topic, partition), part in claim.parts.items():
        before = state.topics[topic].partitions[partition]
        after = replace(
            before,
            duplicates=before.duplicates + part.duplicates,
            dead_letters=before.dead_letters + part.dead_letters,
        )
        state = state.with_partitions(topic, claim.topic_ids[topic], {partition: after}, claim.batch_id)
        state = replace(state, open_ledger=without_paid(state.open_ledger, part.paid))
    return state


def judge(state: CommitState, claim: Claim | Repayment) -> Outcome:
    """Say what an attempt left behind, from the state of a head that was loaded after it.

    A batch of the same end that deferred something else is another one: its rows are not this one's.
    """
    verdict = decide(state, claim)
    if not isinstance(verdict, Fenced) and all(
        _position(state, at, Offset(-1)) == end and state.deferred(*at) == ledger
        for at, (end, ledger) in _left_behind(claim).items()
    ):
        return Outcome.LANDED
    return Outcome.UNMOVED if isinstance(verdict, Proceed) else Outcome.SUPERSEDED


def _left_behind(claim: Claim | Repayment) -> dict[LogPartition, tuple[Offset, tuple[LedgerEntry, ...]]]:
    """Return where each partition that the claim moves stands once it is in."""
    if isinstance(claim, Claim):
        return {
            at: (span.end, with_deferred(span.ledger, span.deferred, span.own_from))
            for at, span in claim.spans.items()
            if span.end > span.start
        }
    return {at: (part.next, without_paid(part.ledger, part.paid)) for at, part in claim.parts.items()}
