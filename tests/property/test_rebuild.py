"""A commit state rebuilt from rows alone: the sink goes on from it, and every id of the log is in the table once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2_cli.completeness import Held, Position
from k2_cli.recovery.rebuild import Rows, balanced, from_rows
from k2_core.intervals import IntervalSet
from k2_core.state import CommitState, PartitionState, TopicState
from k2_core.types import Offset, Partition, TopicId, TopicName

TOPIC, TOPIC_ID = TopicName("t"), TopicId("id")
MARKER = None
BROKEN = -1
"""In a log: an offset without a record, and one whose record becomes a dead letter; all others are ids."""

LOGS = st.lists(
    st.lists(st.one_of(st.none(), st.just(BROKEN), st.integers(0, 30)), max_size=30), min_size=1, max_size=3
)


@dataclass
class Sink:
    """A table and the sink that fills it, by the rules of `k2_sink`: in order, each id once, an account of the rest.

    Ids are per partition, as a symbol is in one partition only.
    """

    logs: list[list[int | None]]
    state: CommitState
    held: dict[int, dict[int, int]]

    def commit(self, number: int, end: int) -> None:
        """Take a partition in up to an offset."""
        known = self.state.partition(TOPIC, Partition(number)) or PartitionState(Offset(0))
        rows = self.held.setdefault(number, {})
        for offset in range(known.next, end):
            record = self.logs[number][offset]
            known = replace(known, next=Offset(offset + 1))
            if record is MARKER:
                known = replace(known, markers=known.markers + 1)
            elif record == BROKEN:
                known = replace(known, dead_letters=known.dead_letters + 1)
            elif record in rows.values():
                known = replace(known, duplicates=known.duplicates + 1)
            else:
                rows[offset] = record
        self.state = self.state.with_partitions(TOPIC, TOPIC_ID, {Partition(number): known}, "b")

    def rows(self) -> Rows:
        """What the table's rows say of the log."""
        held: dict[Position, Held] = {}
        for number, rows in self.held.items():
            if rows:
                numbers = IntervalSet.of_values(np.array(sorted(rows), dtype=np.int64))
                held[TOPIC_ID, number] = Held(len(rows), numbers)
        return Rows(held, {TOPIC_ID: TOPIC} if held else {})

    def check(self) -> None:
        """Each id of the log is in the table once, and every offset is accounted for."""
        for number, log in enumerate(self.logs):
            rows = self.held.get(number, {})
            assert sorted(rows.values()) == sorted({record for record in log if record is not None and record >= 0})
            known = self.state.partition(TOPIC, Partition(number))
            assert known is None or known.rows() == len(rows)


@given(LOGS, st.data())
def test_a_sink_goes_on_from_rows_alone_without_loss_or_double(
    logs: list[list[int | None]], data: st.DataObject
) -> None:
    sink = Sink(logs, CommitState("cluster"), {})
    for number, log in enumerate(logs):
        for end in sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=3))):
            sink.commit(number, end)
    sink.state = from_rows(sink.rows(), "cluster", {TOPIC: TOPIC_ID})
    for number, log in enumerate(logs):
        sink.commit(number, len(log))
    sink.check()


@given(LOGS, st.data())
def test_a_table_that_another_tool_took_back_goes_on_from_the_older_state(
    logs: list[list[int | None]], data: st.DataObject
) -> None:
    sink = Sink(logs, CommitState("cluster"), {})
    state: CommitState = sink.state
    held: dict[int, dict[int, int]] = {}
    for number, log in enumerate(logs):
        end = data.draw(st.integers(0, len(log)))
        sink.commit(number, end)
        if data.draw(st.booleans()):
            state, held = sink.state, {at: dict(rows) for at, rows in sink.held.items()}
    sink.held = held
    sink.state = balanced(state, sink.rows())
    for number, log in enumerate(logs):
        sink.commit(number, len(log))
    sink.check()


@given(LOGS, st.data())
def test_a_sound_table_is_left_as_it_is(logs: list[list[int | None]], data: st.DataObject) -> None:
    sink = Sink(logs, CommitState("cluster", {TOPIC: TopicState(TOPIC_ID)}), {})
    for number, log in enumerate(logs):
        sink.commit(number, data.draw(st.integers(0, len(log))))
    assert balanced(sink.state, sink.rows()) == sink.state
