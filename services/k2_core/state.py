"""The commit state: how far a table has taken each partition of each topic in, as JSON in the table itself.

Written by the sink in the same commit as the rows (`k2_sink.protocol` decides when), read by the query service for the
boundary and by the command line for audit and lag. Pure.

Per partition, at one snapshot: next - origin = rows + duplicates + dead_letters + markers + lost + unexplained + aged +
deferred, where `deferred` are the records that open ledger ranges owe. Everything but `rows` is kept here, zeros left
out; `rows` is in the table, and that the two sides agree is what `k2 audit` checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from k2_core.errors import StateError, StateFormatError
from k2_core.types import Offset, Partition, TopicId, TopicName

FORMAT: Final = 1
STATE_KEY: Final = "k2.state"
"""The table property and the snapshot summary key that hold the state."""
SNAPSHOT_KEY: Final = "k2.state-snapshot"
"""The table property that names the snapshot which the state's parent commit saw, see `k2_sink.protocol`."""
PIPELINE_KEY: Final = "k2.pipeline"
"""The table property that names the one pipeline that may write."""
RECOVERY_KEY: Final = "k2.recovery"
"""The snapshot summary key that names the command with which a person recovered the table."""


LOG_START: Final = Offset(0)
"""Where a partition's log begins, unless retention has removed some of it."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition's account. All numbers are counts of offsets; `next` and `origin` are positions.

    Args:
        next: The first offset that the table has not taken in.
        origin: The offset at which this table began.
        duplicates: Records left out because the table has their id from another position.
        dead_letters: Records that are in the dead-letter topic instead.
        markers: Offsets that hold no record (transaction markers, compacted records).
        lost: Offsets that were gone before they were read, accepted by `k2 adopt-topic`; `CommitState.losses` has them.
        unexplained: Offsets without a row of which no account was left when `k2 adopt` accepted the table.
        aged: Rows that left the table because they were older than the pipeline keeps them.
    """

    next: Offset
    origin: Offset = LOG_START
    duplicates: int = 0
    dead_letters: int = 0
    markers: int = 0
    lost: int = 0
    unexplained: int = 0
    aged: int = 0

    def rows(self, deferred: int = 0) -> int:
        """Return the rows that the table must hold of this partition, if `deferred` records are in the ledger."""
        left_out = self.duplicates + self.dead_letters + self.markers + self.lost + self.unexplained + self.aged
        return self.next - self.origin - left_out - deferred


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A range of the log that a level skipped and that is still owed to the table.

    Args:
        topic: Where, with `partition`, `start` (inclusive) and `end` (exclusive).
        partition: See `topic`.
        start: See `topic`.
        end: See `topic`.
        symbols: The symbols that were deferred, frozen at that time: the keys of their records. Every record of the
            range that has one of these keys is owed, every other one became a row or is accounted for.
        level: The level that deferred them.
        reason: Why, for people.
        records: How many records are owed.
        since_ms: When deferring them began, UTC milliseconds since 1970.
        oldest_ms: When the log took in the oldest of them, or a record shortly before it; retention counts from there.
        raw_file: The newest raw file that holds some of them too (`k2_core.raw_files`), which leads to the others; None
            if the log is their only home.
    """

    topic: TopicName
    partition: Partition
    start: Offset
    end: Offset
    symbols: tuple[str, ...]
    level: int
    reason: str
    records: int
    since_ms: int = 0
    oldest_ms: int = 0
    raw_file: str | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A range of the log that was gone before it was read, accepted by a person.

    Args:
        topic: Where, with `topic_id` and `partition`.
        topic_id: Which of the topics that had this name.
        partition: See `topic`.
        start: The first offset that is lost.
        end: The first that is not, or None where the topic is gone with its end, so that nobody can tell.
        reason: Why, for people.
    """

    topic: TopicName
    topic_id: TopicId
    partition: Partition
    start: Offset
    end: Offset | None
    reason: str


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic's identity and its partitions.

    Args:
        id: Of the topic as it is read now.
        partitions: Their accounts.
        former: The closed accounts of topics that had this name before; their rows are still in the table.
    """

    id: TopicId
    partitions: Mapping[Partition, PartitionState] = field(default_factory=dict)
    former: Mapping[TopicId, Mapping[Partition, PartitionState]] = field(default_factory=dict)

    @property
    def accounts(self) -> Mapping[TopicId, Mapping[Partition, PartitionState]]:
        """All of them, by the id of the topic that they are of; that of now comes last."""
        return {**self.former, self.id: self.partitions}


@dataclass(frozen=True, slots=True)
class CommitState:
    """The whole state of a table.

    Args:
        cluster_id: The Kafka cluster whose offsets these are.
        topics: By name.
        open_ledger: What is owed, oldest first.
        batch_id: Names the commit, for people; decisions are by positions only.
        epoch: Raised by `k2 adopt`, `k2 adopt-topic`, `k2 rollback`: what was read under another one is not committed.
        losses: What `k2 adopt-topic` accepted, oldest first.
    """

    cluster_id: str
    topics: Mapping[TopicName, TopicState] = field(default_factory=dict)
    open_ledger: tuple[LedgerEntry, ...] = ()
    batch_id: str = ""
    epoch: int = 0
    losses: tuple[Loss, ...] = ()

    def partition(self, topic: TopicName, partition: Partition) -> PartitionState | None:
        """Return a partition's account, or None if the table has taken nothing of it in."""
        found = self.topics.get(topic)
        return found.partitions.get(partition) if found else None

    def with_partitions(
        self, topic: TopicName, topic_id: TopicId, changed: Mapping[Partition, PartitionState], batch_id: str
    ) -> CommitState:
        """Return the state with these partitions replaced and all others as they are."""
        before = self.topics.get(topic, TopicState(topic_id))
        after = replace(before, id=topic_id, partitions={**before.partitions, **changed})
        return replace(self, topics={**self.topics, topic: after}, batch_id=batch_id)

    def with_aged(self, left: Mapping[tuple[TopicId, Partition], int], batch_id: str) -> CommitState:
        """Return the state once rows have left the table as too old; counts of topics that it does not know are lost.

        Args:
            left: How many, by where they came from.
            batch_id: Of the commit.
        """
        return replace(
            self, topics={name: _with_aged(topic, left) for name, topic in self.topics.items()}, batch_id=batch_id
        )

    def deferred(self, topic: TopicName, partition: Partition) -> tuple[LedgerEntry, ...]:
        """Return the open ledger entries of one partition, in the order of the log."""
        return tuple(entry for entry in self.open_ledger if (entry.topic, entry.partition) == (topic, partition))

    def dump(self) -> str:
        """Return the state as compact JSON: it is in every snapshot, so its size is paid again and again."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "epoch": self.epoch,
            "cluster_id": self.cluster_id,
            "topics": {name: _dump_topic(topic) for name, topic in sorted(self.topics.items())},
            "open_ledger": [entry_document(entry) for entry in self.open_ledger],
            "batch_id": self.batch_id,
        }
        if self.losses:
            document["losses"] = [loss_document(loss) for loss in self.losses]
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> CommitState:
        """Return the state in a JSON text.

        Raises:
            StateError: It is no state, or one of a format that this version does not read.
        """
        try:
            document = json.loads(text)
            found = document["format"]
            if found != FORMAT:
                raise StateFormatError(
                    f"commit state: found format {found!r}, expected {FORMAT}; use a K2 that reads it"
                )
            return cls(
                cluster_id=document["cluster_id"],
                topics={TopicName(name): _parse_topic(topic) for name, topic in document["topics"].items()},
                open_ledger=tuple(_parse_entry(entry) for entry in document["open_ledger"]),
                batch_id=document["batch_id"],
                epoch=_number(document["epoch"]),
                losses=tuple(_parse_loss(loss) for loss in document.get("losses", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"commit state: found {text[:80]!r}, expected its JSON ({error!r}); to have it rebuilt: `k2 adopt`"
            ) from error


def _with_aged(topic: TopicState, left: Mapping[tuple[TopicId, Partition], int]) -> TopicState:
    def grown(topic_id: TopicId, accounts: Mapping[Partition, PartitionState]) -> dict[Partition, PartitionState]:
        return {
            partition: replace(account, aged=account.aged + left.get((topic_id, partition), 0))
            for partition, account in accounts.items()
        }

    former = {topic_id: grown(topic_id, accounts) for topic_id, accounts in topic.former.items()}
    return TopicState(topic.id, grown(topic.id, topic.partitions), former)


_COUNTS: Final = ("origin", "duplicates", "dead_letters", "markers", "lost", "unexplained", "aged")


def _dump_topic(topic: TopicState) -> dict[str, Any]:
    document = {"id": topic.id} | _dump_partitions(topic.partitions)
    former = {topic_id: _dump_partitions(closed) for topic_id, closed in sorted(topic.former.items())}
    return document | ({"former": former} if former else {})


def _dump_partitions(states: Mapping[Partition, PartitionState]) -> dict[str, Any]:
    partitions = sorted(states.items())
    document: dict[str, Any] = {"next": {str(number): state.next for number, state in partitions}}
    for name in _COUNTS:
        counts = {str(number): getattr(state, name) for number, state in partitions if getattr(state, name)}
        if counts:
            document[name] = counts
    return document


def _parse_topic(document: Mapping[str, Any]) -> TopicState:
    return TopicState(
        id=TopicId(document["id"]),
        partitions=_parse_partitions(document),
        former={TopicId(name): _parse_partitions(closed) for name, closed in document.get("former", {}).items()},
    )


def _parse_partitions(document: Mapping[str, Any]) -> dict[Partition, PartitionState]:
    return {
        Partition(int(number)): _parse_partition(document, number, position)
        for number, position in document["next"].items()
    }


def _parse_partition(topic: Mapping[str, Any], number: str, position: object) -> PartitionState:
    counts: dict[str, Any] = {name: _number(topic.get(name, {}).get(number, 0)) for name in _COUNTS}
    return PartitionState(Offset(_number(position)), **counts)


def _number(value: object) -> int:
    """Return a count or position: positions decide what is committed, so nothing that only looks like one will do."""
    if type(value) is not int or value < 0:
        raise ValueError(f"found {value!r}, expected a whole number from 0")
    return value


def _text(value: object) -> str:
    """Return a symbol: what is owed is found by it, so that a null among them would never come back."""
    if not isinstance(value, str):
        raise TypeError(f"found {value!r}, expected a text")
    return value


def owed_records(entries: Iterable[LedgerEntry]) -> int:
    """Return how many records some ledger entries owe."""
    return sum(entry.records for entry in entries)


def entry_document(entry: LedgerEntry) -> dict[str, Any]:
    """Return a ledger entry as JSON."""
    document: dict[str, Any] = {
        "topic": entry.topic,
        "partition": entry.partition,
        "from": entry.start,
        "to": entry.end,
        "symbols": list(entry.symbols),
        "level": entry.level,
        "reason": entry.reason,
        "records": entry.records,
        "since_ms": entry.since_ms,
        "oldest_ms": entry.oldest_ms,
    }
    return document | ({"raw_file": entry.raw_file} if entry.raw_file else {})


def loss_document(loss: Loss) -> dict[str, Any]:
    """Return a loss as JSON; `to` is null where nobody can tell."""
    return {
        "topic": loss.topic,
        "id": loss.topic_id,
        "partition": loss.partition,
        "from": loss.start,
        "to": loss.end,
        "reason": loss.reason,
    }


def _parse_loss(document: Mapping[str, Any]) -> Loss:
    end = document["to"]
    return Loss(
        topic=TopicName(document["topic"]),
        topic_id=TopicId(document["id"]),
        partition=Partition(_number(document["partition"])),
        start=Offset(_number(document["from"])),
        end=None if end is None else Offset(_number(end)),
        reason=document["reason"],
    )


def _parse_entry(document: Mapping[str, Any]) -> LedgerEntry:
    return LedgerEntry(
        topic=TopicName(document["topic"]),
        partition=Partition(_number(document["partition"])),
        start=Offset(_number(document["from"])),
        end=Offset(_number(document["to"])),
        symbols=tuple(map(_text, document["symbols"])),
        level=_number(document["level"]),
        reason=document["reason"],
        records=_number(document["records"]),
        since_ms=_number(document["since_ms"]),
        oldest_ms=_number(document["oldest_ms"]),
        raw_file=document.get("raw_file"),
    )
