"""Reads across the boundary of table and log: pins a snapshot, asks for the ends, collects the log's part of an answer.

The order of steps is what makes an answer complete: hold the tail, pin S, read W from S, ask for E, wait until the tail
has reached E, take the view. Called by `k2_query.service` in a worker's thread; what to read is decided by
`k2_query.boundary`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from k2_core.records import RecordType
from k2_core.types import Offset, Partition, TopicName
from k2_query import boundary
from k2_query.boundary import LedgerRange, LogBounds, LogPartition, LogRange, Missing, Plan
from k2_query.budget import Budget
from k2_query.lake import Lake, LakeHead, LakeSnapshot
from k2_query.log_reader import LogReader
from k2_query.log_watch import LogWatch
from k2_query.raw_reader import RawReader, range_of
from k2_query.segments import TailStore, TailView, Window

ENDS_PATIENCE_S: Final = 1.0
"""Kafka answers in 2 ms, on a crowded machine once in a while in 500; one that takes longer than this is away."""
ENDS_PATIENCE_WHILE_AWAY_S: Final = 0.05
"""Once it is known to be away, or somebody has waited in vain, for those who come after."""
TAIL_PATIENCE_S: Final = 1.0
"""The tail is a few milliseconds behind, likewise; what it has not read by then is said to be missing."""
TAIL_PATIENCE_WHILE_BEHIND_S: Final = 0.25
"""Once somebody has waited for it in vain, for those who come after: workers are few."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The log's part of an answer, and the snapshot that it completes.

    Args:
        lake: S.
        tail: Rows of [W, E), each message_id once.
        ledger: Rows of S's open ledger ranges, likewise; none that is in `tail`, too.
        missing: What belongs to the answer and could not be read.
        warnings: For people.
    """

    lake: LakeSnapshot
    tail: pa.Table
    ledger: pa.Table
    missing: tuple[Missing, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HybridReader:
    """Collects the log's part of answers.

    Args:
        record_type: What is read.
        topics: Those of the pipeline.
        lake: The snapshots.
        watch: The log's bounds.
        store: The tail.
        reader: For ranges that the tail has not.
        raw: For open ledger ranges that the log has not.
    """

    record_type: RecordType
    topics: tuple[TopicName, ...]
    lake: Lake
    watch: LogWatch
    store: TailStore
    reader: LogReader
    raw: RawReader

    def read(self, window: Window, budget: Budget) -> Reading:
        """Return the log's part for a window.

        Raises:
            CatalogUnavailableError: No snapshot has ever been seen.
            RetryableError: The budget is over.
        """
        with self.store.lease():
            before = self.watch.latest
            head = self.lake.head(budget.remaining_s)
            lake = head.snapshot
            if lake.problem is not None:
                return self._lake_alone(lake, lake.problem)
            log, unanswered = self._bounds(head, budget)
            plan = boundary.make_plan(lake.state, log, self.topics, before.bounds if before else None)
            patience_s = TAIL_PATIENCE_WHILE_BEHIND_S if self.store.is_behind else TAIL_PATIENCE_S
            self.store.wait_for({at.at: at.end for at in plan.uncommitted}, min(patience_s, budget.remaining_s))
            view = self.store.view()
        warnings = (*self._warnings(head, log, unanswered), *_explain(plan.missing))
        tail, missing_tail = self._uncommitted(plan, log, view, window, budget)
        ledger, missing_ledger = self._owed(plan, log, window, budget)
        in_files, missing_files, problems = self._in_files(plan, head, log, window, budget)
        ledger = pa.concat_tables([ledger, in_files])
        rows = boundary.first_copies(pa.concat_tables([tail, ledger]))
        owed = boundary.first_copies(ledger)
        return Reading(
            lake=lake,
            tail=boundary.without(rows, owed.column("message_id")),
            ledger=owed,
            missing=(*plan.missing, *unanswered, *missing_tail, *missing_ledger, *missing_files),
            warnings=(*warnings, *problems),
        )

    def _lake_alone(self, lake: LakeSnapshot, problem: str) -> Reading:
        empty = self.record_type.table_schema.empty_table()
        missing = tuple(_whole(topic, boundary.NO_STATE) for topic in self.topics)
        return Reading(lake, empty, empty, missing, (f"the log was not read: {problem}",))

    def _bounds(self, head: LakeHead, budget: Budget) -> tuple[LogBounds, tuple[Missing, ...]]:
        """Return the log's bounds, and what is missing because Kafka did not say where it ends."""
        away = self.watch.problem is not None or self.watch.is_late
        patience_s = ENDS_PATIENCE_WHILE_AWAY_S if away else ENDS_PATIENCE_S
        sighting = self.watch.ask(min(patience_s, budget.remaining_s))
        if sighting is not None:
            return sighting.bounds, ()
        last = self.watch.latest
        if last is None:
            state = head.snapshot.state
            return (
                LogBounds(state.cluster_id if state else "", {}),
                tuple(_whole(topic, boundary.NO_ANSWER) for topic in self.topics),
            )
        covered, committed = self.store.covered(), positions_of(head, last.bounds)
        topics = {}
        missing = []
        for name, topic in last.bounds.topics.items():
            ends = {}
            for partition, end in topic.ends.items():
                at = LogPartition(name, partition)
                # What the table has taken in was there, however long ago the brokers were last seen.
                ends[partition] = max(covered.get(at, (end, end))[1], committed.get(at, end))
            topics[name] = replace(topic, ends=ends)
            missing += [
                Missing(LogPartition(name, partition), end, None, boundary.NO_ANSWER) for partition, end in ends.items()
            ]
        return replace(last.bounds, topics=topics), tuple(missing)

    def _warnings(self, head: LakeHead, log: LogBounds, unanswered: Sequence[Missing]) -> tuple[str, ...]:
        warnings = []
        if head.table is None:
            warnings.append("the table does not exist yet: nothing was committed")
        if self.lake.problem is not None:
            warnings.append(f"the catalog does not answer; the last snapshot seen was used ({self.lake.problem})")
        if unanswered:
            warnings.append(f"Kafka does not answer; the newest records are missing ({self.watch.problem})")
        else:
            absent = [topic for topic in self.topics if topic not in log.topics]
            warnings += [f"topic {topic} does not exist yet" for topic in absent]
        return tuple(warnings)

    def _uncommitted(
        self, plan: Plan, log: LogBounds, view: TailView, window: Window, budget: Budget
    ) -> tuple[pa.Table, list[Missing]]:
        def covered(at: LogPartition) -> tuple[Offset, Offset]:
            if view.topic_ids.get(at.topic) == log.topics[at.topic].id:
                return view.covered(at)
            return log.topics[at.topic].ends[at.partition], log.topics[at.topic].ends[at.partition]

        parts = boundary.split(plan, covered)
        rows, evicted = view.select(window, parts.here)
        read, missing = self._from_log([*parts.to_read, *evicted], log, window, budget)
        return pa.concat_tables([*read.values(), rows]), [*parts.unread, *missing]

    def _owed(self, plan: Plan, log: LogBounds, window: Window, budget: Budget) -> tuple[pa.Table, list[Missing]]:
        wanted = [owed for owed in _asked_for(plan, window) if owed.raw is None]
        found, missing = self._from_log([owed.range for owed in wanted], log, window, budget)
        parts = [boundary.of_symbols(found[owed.range], set(owed.symbols)) for owed in wanted if owed.range in found]
        return pa.concat_tables([self.record_type.table_schema.empty_table(), *parts]), missing

    def _in_files(
        self, plan: Plan, head: LakeHead, log: LogBounds, window: Window, budget: Budget
    ) -> tuple[pa.Table, list[Missing], list[str]]:
        """Return what only raw files have, what could not be read of it, and why."""
        entries = [owed.raw for owed in _asked_for(plan, window) if owed.raw is not None]
        empty = self.record_type.table_schema.empty_table()
        if not entries or head.table is None:
            return empty, [], []
        read = self.raw.read(entries, head.table, {name: topic.id for name, topic in log.topics.items()}, budget)
        parts, missing = [empty], []
        for entry in entries:
            wanted = range_of(entry)
            if wanted in read.views:
                parts.append(boundary.of_symbols(read.views[wanted].select(window, [wanted])[0], set(entry.symbols)))
            else:
                missing.append(Missing(wanted.at, wanted.start, wanted.end, boundary.RAW_FILE))
        return pa.concat_tables(parts), missing, read.problems

    def _from_log(
        self, ranges: Sequence[LogRange], log: LogBounds, window: Window, budget: Budget
    ) -> tuple[dict[LogRange, pa.Table], list[Missing]]:
        if not ranges:
            return {}, []
        views = self.reader.read(ranges, {name: topic.id for name, topic in log.topics.items()}, budget)
        rows = {wanted: view.select(window, [wanted])[0] for wanted, view in views.items()}
        missing = [
            Missing(wanted.at, wanted.start, wanted.end, boundary.UNREAD) for wanted in ranges if wanted not in views
        ]
        return rows, missing


_EXPLANATIONS: Final[Mapping[str, str]] = {
    boundary.LOST: "records left the log before the table took them in; the sink waits for `k2 adopt-topic`",
    boundary.RECREATED: "the topic was deleted and made again; what is in it waits for `k2 adopt-topic`",
    boundary.OTHER_CLUSTER: "the table's positions are of another Kafka cluster; the sink waits for `k2 adopt-topic`",
    boundary.TRUNCATED: "the log ends before the table's position: the brokers have lost records",
    boundary.NO_TOPIC: "the topic that the table was filled from is gone",
}


def _explain(missing: Sequence[Missing]) -> Iterator[str]:
    """Say once for each topic and reason what lies behind it."""
    for topic, reason in dict.fromkeys((gap.at.topic, gap.reason) for gap in missing):
        yield f"{topic}: {_EXPLANATIONS[reason]}"


def _asked_for(plan: Plan, window: Window) -> list[LedgerRange]:
    """Return the open ledger ranges that may hold rows of a window."""
    return [owed for owed in plan.ledger if window.symbol is None or window.symbol in owed.symbols]


def _whole(topic: TopicName, reason: str) -> Missing:
    return Missing(LogPartition(topic, Partition(-1)), None, None, reason)


def positions_of(head: LakeHead | None, log: LogBounds) -> Mapping[LogPartition, Offset]:
    """Return where the newest snapshot ends, for topics that are still the ones that it speaks of."""
    state = head.snapshot.state if head else None
    if state is None or state.cluster_id != log.cluster_id:
        return {}
    return {
        LogPartition(name, partition): account.next
        for name, topic in state.topics.items()
        if name in log.topics and log.topics[name].id == topic.id
        for partition, account in topic.partitions.items()
    }
