"""For any interleaving of produces, commits, deferrals, drains, trims, evictions and retention with the steps of one
query, the answer holds every record exactly once, or says which range is missing.

The log and the table are lists here; plan, split, tail store and merge are the service's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
from hypothesis import event, given, settings
from hypothesis import strategies as st

from k2_core.records import TRADES
from k2_core.state import CommitState, LedgerEntry, PartitionState
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_query import boundary
from k2_query.boundary import LogBounds, LogPartition, LogRange, Missing, TopicLog, make_plan, split
from k2_query.segments import TailStore, Window
from support.query import BASE, Logged, make_record, table_rows
from support.records import arrow_rows

TOPIC = TopicName("market.crypto.trades.binance")
TOPIC_ID = TopicId("id")
SYMBOLS = {"BTCUSDT": Partition(0), "ETHUSDT": Partition(0), "BNBUSDT": Partition(1)}
PARTITIONS = (Partition(0), Partition(1))
EVERYTHING = Window(None, 0, 2**62)

Op = tuple[str, int, int]
NAMES = (
    "produce",
    "produce",
    "repeat",
    "commit",
    "commit",
    "defer",
    "drain",
    "read",
    "read",
    "trim",
    "retain",
    "overrun",
)
ops = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5), st.integers(0, 5)), max_size=8)


@dataclass
class Model:
    """A log, a table and a tail that obey one operation at a time."""

    store: TailStore
    log: dict[Partition, list[Logged]] = field(default_factory=lambda: {at: [] for at in PARTITIONS})
    starts: dict[Partition, int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    state: CommitState = field(default_factory=lambda: CommitState("cluster"))
    table: list[Logged] = field(default_factory=list)
    produced: int = 0

    def __post_init__(self) -> None:
        self.store.restart({LogPartition(TOPIC, at): Offset(0) for at in PARTITIONS}, {TOPIC: TOPIC_ID})

    def apply(self, steps: Sequence[Op]) -> None:
        for name, first, second in steps:
            getattr(self, f"do_{name}")(first, second)

    def do_produce(self, which: int, count: int) -> None:
        symbol = list(SYMBOLS)[which % len(SYMBOLS)]
        for _ in range(count):
            self.produced += 1
            at = BASE + timedelta(milliseconds=self.produced)
            self._append(Logged(make_record(symbol, self.produced, at), TOPIC_ID, SYMBOLS[symbol], Offset(0)))

    def do_repeat(self, which: int, _: int) -> None:
        everything = [one for at in PARTITIONS for one in self.log[at]]
        if everything:
            self._append(everything[which % len(everything)])

    def _append(self, one: Logged) -> None:
        self.log[one.partition].append(replace(one, offset=Offset(len(self.log[one.partition]))))

    def do_commit(self, first: int, second: int, deferred: str | None = None) -> None:
        changed = {}
        for at, steps in zip(PARTITIONS, (first, second), strict=True):
            account = self.state.partition(TOPIC, at)
            start = account.next if account else self.starts[at]
            if start < self.starts[at]:
                continue  # the sink refuses until somebody accepts the loss
            end = min(start + steps, len(self.log[at]))
            changed[at] = PartitionState(Offset(end), account.origin if account else Offset(start))
            taken = self.log[at][start:end]
            owed = [one for one in taken if one.record["symbol"] == deferred]
            if owed:
                entry = LedgerEntry(TOPIC, at, Offset(start), Offset(end), (str(deferred),), 2, "load", len(owed))
                self.state = replace(self.state, open_ledger=(*self.state.open_ledger, entry))
            self._store_rows([one for one in taken if one not in owed])
        self.state = self.state.with_partitions(TOPIC, TOPIC_ID, changed, "batch")

    def do_defer(self, first: int, second: int) -> None:
        self.do_commit(first, second, deferred="ETHUSDT")

    def do_drain(self, _: int, __: int) -> None:
        if not self.state.open_ledger:
            return
        entry, *others = self.state.open_ledger
        if entry.start < self.starts[entry.partition]:
            return
        owed = self.log[entry.partition][entry.start : entry.end]
        self._store_rows([one for one in owed if one.record["symbol"] in entry.symbols])
        self.state = replace(self.state, open_ledger=tuple(others))

    def _store_rows(self, rows: list[Logged]) -> None:
        known = {one.record["message_id"] for one in self.table}
        for one in rows:
            if one.record["message_id"] not in known:
                known.add(one.record["message_id"])
                self.table = [*self.table, one]

    def _next(self, at: Partition) -> int:
        found = self.state.partition(TOPIC, at)
        return found.next if found else 0

    def do_read(self, first: int, second: int) -> None:
        for at, count in zip(PARTITIONS, (first, second), strict=True):
            self.read_to(at, self.store.covered()[LogPartition(TOPIC, at)][1] + count)

    def read_to(self, at: Partition, end: int) -> None:
        position = self.store.covered()[LogPartition(TOPIC, at)][1]
        found = self.log[at][position:end]
        if not found or position < self.starts[at]:
            return
        slots = np.full(len(found), at, dtype=np.int64)
        offsets = np.array([one.offset for one in found], dtype=np.int64)
        self.store.append(arrow_rows([one.record for one in found]), slots, offsets, {at: position + len(found)})

    def do_trim(self, _: int, __: int) -> None:
        self.store.trim({LogPartition(TOPIC, at): Offset(self._next(at)) for at in PARTITIONS})

    def do_retain(self, which: int, _: int) -> None:
        at = PARTITIONS[which % 2]
        self.starts[at] = max(self.starts[at], self._next(at))

    def do_overrun(self, which: int, count: int) -> None:
        at = PARTITIONS[which % 2]
        self.starts[at] = min(len(self.log[at]), self.starts[at] + count)

    def bounds(self) -> LogBounds:
        starts = {at: Offset(self.starts[at]) for at in PARTITIONS}
        ends = {at: Offset(len(self.log[at])) for at in PARTITIONS}
        return LogBounds("cluster", {TOPIC: TopicLog(TOPIC_ID, starts, ends)})

    def read_range(self, wanted: LogRange) -> list[Logged] | None:
        at = wanted.at.partition
        return self.log[at][wanted.start : wanted.end] if wanted.start >= self.starts[at] else None


@given(
    before=ops,
    pinned=ops,
    asked=ops,
    viewed=ops,
    max_bytes=st.sampled_from([600, 3000, 2**40]),
    caught_up=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_every_record_once_or_said_to_be_missing(
    before: list[Op], pinned: list[Op], asked: list[Op], viewed: list[Op], max_bytes: int, caught_up: bool
) -> None:
    model = Model(TailStore(TRADES, max_bytes))
    model.apply(before)
    with model.store.lease():
        origins = model.bounds()
        state, lake = model.state, model.table
        model.apply(pinned)
        log = model.bounds()
        model.apply(asked)
        if caught_up:
            for at, end in log.topics[TOPIC].ends.items():
                model.read_to(at, end)
        view = model.store.view()
    model.apply(viewed)

    plan = make_plan(state, log, [TOPIC], origins)
    parts = split(plan, view.covered)
    rows, evicted = view.select(EVERYTHING, parts.here)
    missing = [*plan.missing, *parts.unread]
    from_log = [rows]
    for wanted, symbols in [
        *((wanted, set(SYMBOLS)) for wanted in (*parts.to_read, *evicted)),
        *((owed.range, set(owed.symbols)) for owed in plan.ledger),
    ]:
        read = model.read_range(wanted)
        if read is None:
            missing.append(Missing(wanted.at, wanted.start, wanted.end, boundary.UNREAD))
        else:
            from_log.append(boundary.of_symbols(table_rows(read), symbols))
    lake_ids = [one.record["message_id"] for one in lake]
    fresh = boundary.without(boundary.first_copies(pa.concat_tables(from_log)), pa.array(lake_ids, pa.string()))
    answer = lake_ids + fresh.column("message_id").to_pylist()

    event(f"complete: {not missing}")
    assert len(answer) == len(set(answer))
    below_end = [
        one for at in PARTITIONS for one in model.log[at][_origin(state, origins, at) : log.topics[TOPIC].ends[at]]
    ]
    assert set(answer) <= {one.record["message_id"] for one in below_end}
    lost = {one.record["message_id"] for one in below_end} - set(answer)
    for name in lost:
        copies = [one for one in below_end if one.record["message_id"] == name]
        assert all(_is_in(one, missing) for one in copies), f"{name} is neither in the answer nor said to be missing"
    assert not lost or missing


def _origin(state: CommitState, origins: LogBounds, at: Partition) -> int:
    """Where the table began: what had left the log before is nobody's."""
    account = state.partition(TOPIC, at)
    return account.origin if account else origins.topics[TOPIC].starts[at]


def _is_in(one: Logged, missing: Sequence[Missing]) -> bool:
    return any(gap.at.partition == one.partition and (gap.start or 0) <= one.offset < (gap.end or 0) for gap in missing)
