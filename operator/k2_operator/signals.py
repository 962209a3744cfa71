"""What the operator knows of a pipeline's topics, groups and secrets: the answer to one look, and what follows from it.

Made by `observe`, read by `reconcile` and `status`. Signals only: nothing here decides about data, and what is missing
is None, never 0. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from k2_core.engine_report import EngineWord
from k2_core.spec import KafkaSpec, SecretKeyRef
from k2_core.symbols_report import SymbolsWord
from k2_core.types import Offset, Partition, TopicId, TopicName

Positions = Mapping[tuple[TopicName, Partition], Offset]


@dataclass(frozen=True, slots=True)
class Question:
    """What to look at for one pipeline.

    Args:
        namespace: Where its secrets are.
        kafka: Where its topics are.
        trades: The topics whose lag counts.
        topics: Partitions by name of all topics that have to exist.
        sink_group: Holds read positions.
        committed_group: Holds committed positions.
        secrets: The keys that must exist, by the field that refers to them.
        create: Whether missing topics are made.
        grow: Whether topics with too few partitions grow: only while nothing writes or reads.
        engine_group: Holds what query services say of their Trino; None where they have none.
        symbols_group: Holds what ingests say of the pipeline's symbols; None where no source listens to an exchange.
        remove: Topics that are deleted if they are there: only once no table is left that was made from them.
    """

    namespace: str
    kafka: KafkaSpec
    trades: tuple[TopicName, ...]
    topics: Mapping[TopicName, int]
    sink_group: str
    committed_group: str
    secrets: Mapping[str, SecretKeyRef]
    create: bool = True
    grow: bool = False
    engine_group: str | None = None
    symbols_group: str | None = None
    remove: tuple[TopicName, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """Where the trades' topics stand.

    Args:
        starts: The first offset that each partition still has.
        ends: Last stable offsets.
        read: Where the sinks read; a partition without one is left out.
        committed: What the table has taken in; likewise.
        committed_at: When the last commit was confirmed.
        newest_event_time: Of what was committed.
        owed: Records that levels have put off and that are not in the table yet; None if a sink has committed and not
            said since how much of that it put off. Sinks that say nothing of themselves owe nothing.
        engine: What query services say of their Trino; None if they have said nothing lately.
        symbols: What ingests say of the pipeline's symbols; likewise.
    """

    starts: Positions = field(default_factory=dict)
    ends: Positions = field(default_factory=dict)
    read: Positions = field(default_factory=dict)
    committed: Positions = field(default_factory=dict)
    committed_at: datetime | None = None
    newest_event_time: datetime | None = None
    owed: int | None = 0
    engine: EngineWord | None = None
    symbols: SymbolsWord | None = None

    @property
    def unread(self) -> int | None:
        """Records between the sinks' read positions and the ends."""
        return behind(self.starts, self.ends, self.read)

    @property
    def uncommitted(self) -> int | None:
        """Records between the table and the ends."""
        return behind(self.starts, self.ends, self.committed)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Which of the referenced secrets there are.

    Args:
        versions: By name of each that was read.
        problems: By name of each that was not, or lacks a key: what is wrong.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one look brought.

    Args:
        question: What was asked.
        at_s: When, on the monotonic clock.
        secrets: Always looked at first, as Kafka may need them.
        partitions: Of each topic that exists; None when Kafka did not answer.
        log: None when Kafka did not answer.
        kafka_problem: Why it did not, or None.
        topics_problem: Why topics could not be made, grown or deleted, or None.
        ids: Of each topic that exists: no two topics of any Kafka have the same.
    """

    question: Question
    at_s: float
    secrets: Secrets
    partitions: Mapping[TopicName, int] | None = None
    log: Log | None = None
    kafka_problem: str | None = None
    topics_problem: str | None = None
    ids: Mapping[TopicName, TopicId] = field(default_factory=dict)

    @property
    def missing_topics(self) -> list[TopicName]:
        """Topics that are wanted and do not exist."""
        return sorted(name for name in self.question.topics if name not in (self.partitions or {}))

    @property
    def small_topics(self) -> dict[TopicName, tuple[int, int]]:
        """Partitions found and wanted of topics that have too few."""
        wanted = self.question.topics
        return {name: (found, wanted[name]) for name, found in (self.partitions or {}).items() if found < wanted[name]}

    @property
    def large_topics(self) -> dict[TopicName, tuple[int, int]]:
        """Partitions found and wanted of topics that have more than asked."""
        wanted = self.question.topics
        return {name: (found, wanted[name]) for name, found in (self.partitions or {}).items() if found > wanted[name]}

    @property
    def topics_ready(self) -> bool:
        """Whether every topic is there with enough partitions."""
        return self.partitions is not None and not self.missing_topics and not self.small_topics


def behind(starts: Positions, ends: Positions, positions: Positions) -> int | None:
    """Return how many records lie between positions and ends, or None if a position is missing where records are.

    A partition without a position counts as done when it holds nothing: there is nothing that could be behind.
    """
    total = 0
    for at, end in ends.items():
        position = positions.get(at)
        if position is None:
            if end > starts.get(at, Offset(0)):
                return None
            continue
        total += max(0, end - max(position, starts.get(at, position)))
    return total


def reached(positions: Positions, targets: Positions, starts: Positions) -> bool | None:
    """Return whether positions are at or past all targets; None if a position is missing where records are."""
    left = behind(starts, targets, positions)
    return None if left is None else left == 0


def drained(log: Log, targets: Positions) -> bool | None:
    """Return whether everything before some positions is in the table; None if that is not known."""
    done = reached(log.committed, targets, log.starts)
    if not done:
        return done
    return None if log.owed is None else log.owed == 0
