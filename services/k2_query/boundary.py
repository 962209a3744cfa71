"""The hybrid boundary: which ranges of the log belong to an answer, and whether the answer is complete.

    answer = Iceberg(S) + Kafka[W, E) + S's open ledger ranges - duplicates by message_id

S is the pinned snapshot, W the `next` positions in S's own commit state, E the last stable offsets, asked for after S
was pinned. Called by `k2_query.hybrid` and, as its own oracle, by the property tests. Pure: it meets neither Kafka nor
a catalog, and never looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.state import CommitState, LedgerEntry
from k2_core.types import Offset, Partition, TopicId, TopicName

LOST: Final = "removed_from_log"
RECREATED: Final = "topic_recreated"
OTHER_CLUSTER: Final = "other_cluster"
TRUNCATED: Final = "log_ends_before_table"
RAW_FILE: Final = "raw_file_not_read"
UNREAD: Final = "not_read_in_time"
NO_ANSWER: Final = "kafka_unavailable"
NO_TOPIC: Final = "topic_missing"
DEFERRED: Final = "deferred_to_ledger"
NO_STATE: Final = "commit_state_unusable"


class LogPartition(NamedTuple):
    """One partition of one topic."""

    topic: TopicName
    partition: Partition


@dataclass(frozen=True, slots=True)
class LogRange:
    """Offsets [start, end) of one partition."""

    at: LogPartition
    start: Offset
    end: Offset

    def __len__(self) -> int:
        return max(0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Missing:
    """A range that belongs to the answer and is not in it; an end of None is not known."""

    at: LogPartition
    start: Offset | None
    end: Offset | None
    reason: str


@dataclass(frozen=True, slots=True)
class TopicLog:
    """One topic as the brokers describe it: its id, and where each partition starts and stably ends."""

    id: TopicId
    starts: Mapping[Partition, Offset]
    ends: Mapping[Partition, Offset]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The log at one moment. A topic that does not exist is left out."""

    cluster_id: str
    topics: Mapping[TopicName, TopicLog]


@dataclass(frozen=True, slots=True)
class LedgerRange:
    """What of an open ledger entry can be read; only its symbols are owed.

    Args:
        range: Where it is in the log.
        symbols: Of the entry.
        raw: The entry, where the log has lost some of it and raw files have all of it; None: read the log.
    """

    range: LogRange
    symbols: tuple[str, ...]
    raw: LedgerEntry | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read beside the table for one answer.

    Args:
        uncommitted: [W, E) of each partition, without what the log has lost.
        ledger: The open ledger ranges of S.
        missing: What is known to be unreadable before anything was read.
    """

    uncommitted: tuple[LogRange, ...] = ()
    ledger: tuple[LedgerRange, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass
class _Draft:
    uncommitted: list[LogRange] = field(default_factory=list)
    ledger: list[LedgerRange] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def done(self) -> Plan:
        return Plan(tuple(self.uncommitted), tuple(self.ledger), tuple(self.missing))


def make_plan(
    state: CommitState | None, log: LogBounds, topics: Sequence[TopicName], origins: LogBounds | None = None
) -> Plan:
    """Decide what an answer needs from the log.

    Args:
        state: S's own state, or None where the table has taken in nothing yet.
        log: Asked for after S was pinned.
        topics: Those of the pipeline; the state may know fewer.
        origins: Asked for before S was pinned. A partition of which S knows nothing is owed from where the log began
            then: what a later commit takes in may be gone from the log by the time that `log` is asked for.
    """
    draft = _Draft()
    for topic in topics:
        found = log.topics.get(topic)
        trouble = _identity_trouble(state, log, topic)
        if trouble is not None:
            draft.missing.append(Missing(LogPartition(topic, Partition(-1)), None, None, trouble))
        elif found is not None:
            before = origins.topics.get(topic) if origins else None
            first = before.starts if before is not None and before.id == found.id else {}
            for partition in sorted(found.ends):
                account = state.partition(topic, partition) if state else None
                position = account.next if account else first.get(partition, found.starts[partition])
                _plan_partition(LogPartition(topic, partition), position, found, draft)
    for entry in state.open_ledger if state else ():
        _plan_entry(entry, state, log, draft)
    return draft.done()


def _identity_trouble(state: CommitState | None, log: LogBounds, topic: TopicName) -> str | None:
    """Say why the table's offsets do not speak of this log, if they do not."""
    known = state.topics.get(topic) if state else None
    if state is None or known is None:
        return None
    if state.cluster_id != log.cluster_id:
        return OTHER_CLUSTER
    found = log.topics.get(topic)
    if found is None:
        return NO_TOPIC
    return None if found.id == known.id else RECREATED


def _plan_partition(at: LogPartition, position: Offset, found: TopicLog, draft: _Draft) -> None:
    start, end = found.starts[at.partition], found.ends[at.partition]
    if start > position:
        draft.missing.append(Missing(at, position, start, LOST))
        position = start
    if end < position:
        draft.missing.append(Missing(at, end, position, TRUNCATED))
    elif end > position:
        draft.uncommitted.append(LogRange(at, position, end))


def _plan_entry(entry: LedgerEntry, state: CommitState | None, log: LogBounds, draft: _Draft) -> None:
    at = LogPartition(entry.topic, entry.partition)
    trouble = _identity_trouble(state, log, entry.topic)
    found = log.topics.get(entry.topic)
    if trouble is not None or found is None:
        draft.missing.append(Missing(at, entry.start, entry.end, trouble or NO_TOPIC))
        return
    start = min(entry.end, max(entry.start, found.starts.get(entry.partition, Offset(0))))
    if start > entry.start and entry.raw_file is not None:
        draft.ledger.append(LedgerRange(LogRange(at, entry.start, entry.end), entry.symbols, entry))
        return
    if start > entry.start:
        draft.missing.append(Missing(at, entry.start, start, LOST))
    if start < entry.end:
        draft.ledger.append(LedgerRange(LogRange(at, start, entry.end), entry.symbols))


@dataclass(frozen=True, slots=True)
class Split:
    """Where the uncommitted ranges of a plan are.

    Args:
        here: In the tail.
        to_read: Before what the tail covers: to be read from the log.
        unread: Behind it: the tail has not got there in time.
    """

    here: tuple[LogRange, ...]
    to_read: tuple[LogRange, ...]
    unread: tuple[Missing, ...]


def split(plan: Plan, covered: Callable[[LogPartition], tuple[Offset, Offset]]) -> Split:
    """Divide [W, E) of each partition by the positions [start, end) that the tail covers of it."""
    here: list[LogRange] = []
    to_read: list[LogRange] = []
    unread: list[Missing] = []
    for wanted in plan.uncommitted:
        start, end = covered(wanted.at)
        inside = LogRange(wanted.at, max(wanted.start, start), min(wanted.end, end))
        if len(inside):
            here.append(inside)
        for part in outside(wanted, start, end):
            if part.start >= end:
                unread.append(Missing(part.at, part.start, part.end, UNREAD))
            else:
                to_read.append(part)
    return Split(tuple(here), tuple(to_read), tuple(unread))


def outside(needed: LogRange, covered_from: Offset, covered_to: Offset) -> tuple[LogRange, ...]:
    """Return the parts of a range that [covered_from, covered_to) leaves out, in order."""
    if covered_from >= covered_to:
        return (needed,) if len(needed) else ()
    before = LogRange(needed.at, needed.start, min(needed.end, covered_from))
    after = LogRange(needed.at, max(needed.start, covered_to), needed.end)
    return tuple(part for part in (before, after) if len(part))


def first_copies(rows: pa.Table) -> pa.Table:
    """Return rows of the log with each message_id once: the copy at the lowest offset, as the sink would keep it.

    Copies of one record are in one partition, because its symbol decides where it goes.
    """
    if rows.num_rows < 2:
        return rows
    order = np.argsort(rows.column("kafka_offset").to_numpy(), kind="stable")
    codes = rows.column("message_id").combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes[order], return_index=True)
    return rows if len(first) == len(order) else rows.take(pa.array(np.sort(order[first])))


def without(rows: pa.Table, known_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the rows whose message_id is not among the lake's: the lake's copy wins."""
    if not len(known_ids):
        return rows
    return rows.filter(pc.invert(pc.is_in(rows.column("message_id"), value_set=known_ids)))


def of_symbols(rows: pa.Table, symbols: Set[str]) -> pa.Table:
    """Return the rows of some symbols."""
    return rows.filter(pc.is_in(rows.column("symbol"), value_set=pa.array(sorted(symbols), pa.string())))


def count_known(rows: pa.Table, ids: pa.ChunkedArray) -> int:
    """Return how many rows have one of some ids."""
    return int(pc.sum(pc.is_in(rows.column("message_id"), value_set=ids)).as_py() or 0)
