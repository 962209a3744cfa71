"""Each rule of the boundary on its own; tests/property/test_boundary.py has all of them at once."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from k2_core.state import CommitState, LedgerEntry, PartitionState, TopicState
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_query import boundary
from k2_query.boundary import LogBounds, LogPartition, LogRange, Missing, TopicLog, first_copies, make_plan, outside
from support.query import BASE, Logged, make_record, table_rows

TOPIC = TopicName("market.crypto.trades.binance")
P0, P1 = LogPartition(TOPIC, Partition(0)), LogPartition(TOPIC, Partition(1))
NOWHERE = LogPartition(TOPIC, Partition(-1))


def log_of(starts: tuple[int, int] = (0, 0), ends: tuple[int, int] = (100, 50), topic_id: str = "id") -> LogBounds:
    def by_partition(values: tuple[int, int]) -> dict[Partition, Offset]:
        return {Partition(at): Offset(value) for at, value in enumerate(values)}

    return LogBounds("cluster", {TOPIC: TopicLog(TopicId(topic_id), by_partition(starts), by_partition(ends))})


def state_of(*positions: int, ledger: tuple[LedgerEntry, ...] = ()) -> CommitState:
    partitions = {Partition(at): PartitionState(Offset(position)) for at, position in enumerate(positions)}
    return CommitState("cluster", {TOPIC: TopicState(TopicId("id"), partitions)}, ledger)


def span(at: LogPartition, start: int, end: int) -> LogRange:
    return LogRange(at, Offset(start), Offset(end))


def gap(at: LogPartition, start: int | None, end: int | None, reason: str) -> Missing:
    return Missing(at, None if start is None else Offset(start), None if end is None else Offset(end), reason)


@pytest.mark.parametrize(
    ("state", "log", "uncommitted", "missing"),
    [
        (state_of(40, 50), log_of(), [span(P0, 40, 100)], []),
        (None, log_of(), [span(P0, 0, 100), span(P1, 0, 50)], []),
        (None, log_of(starts=(20, 50)), [span(P0, 20, 100)], []),
        (state_of(40), log_of(starts=(0, 10)), [span(P0, 40, 100), span(P1, 10, 50)], []),
        (state_of(40, 50), log_of(starts=(60, 0)), [span(P0, 60, 100)], [gap(P0, 40, 60, boundary.LOST)]),
        (state_of(40, 50), log_of(starts=(100, 0)), [], [gap(P0, 40, 100, boundary.LOST)]),
        (state_of(140, 50), log_of(), [], [gap(P0, 100, 140, boundary.TRUNCATED)]),
        (state_of(40, 50), log_of(topic_id="other"), [], [gap(NOWHERE, None, None, boundary.RECREATED)]),
        (state_of(40, 50), LogBounds("cluster", {}), [], [gap(NOWHERE, None, None, boundary.NO_TOPIC)]),
        (state_of(40, 50), LogBounds("x", log_of().topics), [], [gap(NOWHERE, None, None, boundary.OTHER_CLUSTER)]),
        (CommitState("x"), log_of(ends=(1, 0)), [span(P0, 0, 1)], []),
        (None, LogBounds("cluster", {}), [], []),
    ],
    ids=["usual", "no-state", "no-state-old-log", "new-partition", "lost", "all-lost", "truncated", "recreated",
         "topic-gone", "other-cluster", "state-without-topic", "nothing-yet"],
)  # fmt: skip
def test_what_belongs_to_an_answer(
    state: CommitState | None, log: LogBounds, uncommitted: list[LogRange], missing: list[Missing]
) -> None:
    plan = make_plan(state, log, [TOPIC])
    assert list(plan.uncommitted) == uncommitted
    assert list(plan.missing) == missing


def test_an_unknown_partition_is_owed_from_where_the_log_began_before_the_snapshot() -> None:
    plan = make_plan(None, log_of(starts=(30, 0)), [TOPIC], origins=log_of(starts=(10, 0)))
    assert plan.uncommitted == (span(P0, 30, 100), span(P1, 0, 50))
    assert plan.missing == (gap(P0, 10, 30, boundary.LOST),)
    other = make_plan(None, log_of(starts=(30, 0)), [TOPIC], origins=log_of(starts=(10, 0), topic_id="before"))
    assert other.missing == ()


@pytest.mark.parametrize(
    ("log", "raw_file", "readable", "missing"),
    [
        (log_of(), None, [span(P0, 10, 30)], []),
        (log_of(starts=(15, 0)), None, [span(P0, 15, 30)], [gap(P0, 10, 15, boundary.LOST)]),
        (log_of(), "raw", [span(P0, 10, 30)], []),
        (log_of(starts=(15, 0)), "raw", [span(P0, 10, 30)], []),
        (log_of(starts=(35, 0)), "raw", [span(P0, 10, 30)], []),
        (log_of(starts=(35, 0)), None, [], [gap(P0, 10, 30, boundary.LOST)]),
        (log_of(topic_id="other"), None, [], [gap(P0, 10, 30, boundary.RECREATED)]),
    ],
    ids=["whole", "half-gone", "whole-twice", "half-in-a-file", "in-a-file", "gone", "recreated"],
)
def test_what_the_ledger_owes(
    log: LogBounds, raw_file: str | None, readable: list[LogRange], missing: list[Missing]
) -> None:
    entry = LedgerEntry(TOPIC, Partition(0), Offset(10), Offset(30), ("ETHUSDT",), 2, "load", 20, raw_file=raw_file)
    plan = make_plan(state_of(40, 50, ledger=(entry,)), log, [TOPIC])
    assert [owed.range for owed in plan.ledger] == readable
    assert all(owed.symbols == ("ETHUSDT",) for owed in plan.ledger)
    from_files = raw_file is not None and log.topics[TOPIC].starts[Partition(0)] > 10
    assert all((owed.raw == entry) if from_files else (owed.raw is None) for owed in plan.ledger)
    assert [one for one in plan.missing if one.at == P0] == missing


def test_an_entry_of_a_topic_that_is_gone_is_missing() -> None:
    entry = LedgerEntry(TopicName("old"), Partition(0), Offset(1), Offset(2), ("X",), 2, "load", 1)
    state = replace(state_of(40, 50), open_ledger=(entry,))
    assert (
        gap(LogPartition(TopicName("old"), Partition(0)), 1, 2, boundary.NO_TOPIC)
        in make_plan(state, log_of(), [TOPIC]).missing
    )


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        ((0, 100), []),
        ((10, 20), []),
        ((12, 18), [span(P0, 10, 12), span(P0, 18, 20)]),
        ((0, 15), [span(P0, 15, 20)]),
        ((15, 30), [span(P0, 10, 15)]),
        ((30, 40), [span(P0, 10, 20)]),
        ((15, 15), [span(P0, 10, 20)]),
    ],
    ids=["more", "exact", "middle", "begin", "end", "behind", "nothing"],
)
def test_outside(covered: tuple[int, int], expected: list[LogRange]) -> None:
    assert list(outside(span(P0, 10, 20), Offset(covered[0]), Offset(covered[1]))) == expected


def test_a_plan_splits_into_memory_log_and_not_yet() -> None:
    plan = make_plan(state_of(10, 50), log_of(ends=(40, 50)), [TOPIC])
    parts = boundary.split(plan, lambda _: (Offset(20), Offset(30)))
    assert parts.here == (span(P0, 20, 30),)
    assert parts.to_read == (span(P0, 10, 20),)
    assert parts.unread == (gap(P0, 30, 40, boundary.UNREAD),)


def rows_of(*ids_and_offsets: tuple[int, int], symbol: str = "BTCUSDT") -> pa.Table:
    return table_rows(
        [
            Logged(make_record(symbol, number, BASE, side=None), TopicId("id"), Partition(0), Offset(offset))
            for number, offset in ids_and_offsets
        ]
    )


def test_of_copies_the_first_in_the_log_stays() -> None:
    kept = first_copies(rows_of((1, 10), (2, 11), (1, 3), (3, 12), (2, 40)))
    assert sorted(kept.column("kafka_offset").to_pylist()) == [3, 11, 12]
    assert first_copies(rows_of((1, 1), (2, 2))).num_rows == 2
    assert first_copies(rows_of((1, 1))).num_rows == 1


def test_the_lake_s_copy_wins() -> None:
    rows = rows_of((1, 1), (2, 2), (3, 3))
    known = pa.chunked_array([pa.array(["binance:spot:BTCUSDT:2", "other"])])
    assert boundary.without(rows, known).column("sequence").to_pylist() == [1, 3]
    assert boundary.without(rows, pa.chunked_array([], pa.string())) is rows
    assert boundary.count_known(rows, known) == 1
    assert boundary.count_known(rows.slice(0, 0), known) == 0


def test_rows_of_some_symbols() -> None:
    rows = pa.concat_tables([rows_of((1, 1)), rows_of((1, 2), symbol="ETHUSDT")])
    assert boundary.of_symbols(rows, {"ETHUSDT"}).column("symbol").to_pylist() == ["ETHUSDT"]
    assert boundary.of_symbols(rows, set()).num_rows == 0
