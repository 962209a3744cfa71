"""Writers that defer and drain, lost answers, zombies, takeovers, rollbacks: every id is in the table once, or owed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from k2_cli.recovery.rebuild import restored
from k2_core.state import CommitState, LedgerEntry, owed_records
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.deferral import RAW_FROM
from k2_sink.ledger import Paid
from k2_sink.protocol import (
    Claim,
    Drained,
    Fenced,
    LogPartition,
    Outcome,
    Proceed,
    Repayment,
    Span,
    Superseded,
    decide,
    judge,
)

TOPIC = TopicName("t")
PARTITIONS = 2
WRITERS = 3
KEYS = ("a", "b", "c")
DEFERS = {0: (), 2: ("a",), 3: ("a", "b")}
"""By level; a writer with another pipeline file defers other keys at the same level."""
OTHER_DEFERS = {0: (), 2: ("b",), 3: ("a", "c")}
FATES = ("answered", "answered", "answer lost", "request lost", "not tried")
"""What becomes of an attempt; one that is not tried yet is in hand, and others may be faster."""

Record = tuple[str, int]
"""Key and id."""
Row = tuple[LogPartition, int, int]
"""Where in the log, and which id."""


def _log(partition: int) -> list[Record]:
    """A partition's records: of three keys, every other one a record that was sent before."""
    draw = random.Random(f"log {partition}")  # not for secrets
    records: list[Record] = []
    for number in range(400):
        again = records and draw.random() < 0.5
        records.append(draw.choice(records[-4:]) if again else (draw.choice(KEYS), partition * 1_000 + number))
    return records


LOGS = {(TOPIC, Partition(number)): _log(number) for number in range(PARTITIONS)}


def ids_of(at: LogPartition, offsets: Iterable[int]) -> set[int]:
    return {LOGS[at][offset][1] for offset in offsets}


def owed_offsets(entry: LedgerEntry) -> list[int]:
    at = (entry.topic, entry.partition)
    return [offset for offset in range(entry.start, entry.end) if LOGS[at][offset][0] in entry.symbols]


@dataclass(frozen=True)
class Place:
    """Where a writer believes that a partition stands."""

    next: int
    ledger: tuple[LedgerEntry, ...]
    own_from: int


@dataclass
class Writer:
    """A sink: what it knows of the table, and the attempt whose answer it has not heard."""

    other: bool = False
    places: dict[LogPartition, Place] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    claim: Claim | Repayment | None = None
    rows: list[Row] = field(default_factory=list)
    base: int | None = None
    tried: bool = False
    epoch: int = 0

    def fresh(self, at: LogPartition, offsets: Iterable[int]) -> list[Row]:
        """Take records in, those left out that it knows already."""
        known = self.seen | {row[2] for row in self.rows}
        rows = []
        for offset in offsets:
            number = LOGS[at][offset][1]
            if number not in known:
                known.add(number)
                rows.append((at, offset, number))
        return rows

    def defers(self, level: int) -> tuple[str, ...]:
        return (OTHER_DEFERS if self.other else DEFERS)[level]

    def begin(self, claim: Claim | Repayment) -> None:
        self.claim, self.tried = claim, False

    def end(self) -> None:
        self.claim, self.base, self.rows = None, None, []


class Writers(RuleBasedStateMachine):
    """A table as a version, a state and its rows; commits compare the version, as a catalog does."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.state = CommitState("cluster")
        self.table: list[Row] = []
        self.snapshots: list[tuple[CommitState, list[Row]]] = [(self.state, [])]
        self.writers = [Writer(other=number == 2) for number in range(WRITERS)]
        for writer in self.writers[1:]:  # one is a zombie from the start
            self._learn(writer, LOGS)

    def _next(self, at: LogPartition) -> int:
        known = self.state.partition(*at)
        return known.next if known else 0

    def _learn(self, writer: Writer, partitions: Iterable[LogPartition]) -> None:
        for at in partitions:
            writer.places[at] = Place(self._next(at), self.state.deferred(*at), self._next(at))
        writer.seen = {row[2] for row in self.table}

    @rule(who=st.integers(0, WRITERS - 1), partitions=st.sets(st.integers(0, PARTITIONS - 1), min_size=1))
    def takes_partitions(self, who: int, partitions: set[int]) -> None:
        """A rebalance, honest or not: the former owner is not told."""
        writer = self.writers[who]
        if writer.claim is None:
            if not writer.places:
                writer.epoch = self.state.epoch
            self._learn(writer, [(TOPIC, Partition(number)) for number in sorted(partitions)])

    @rule(
        who=st.integers(0, WRITERS - 1),
        count=st.integers(1, 6),
        level=st.sampled_from(sorted(DEFERS)),
        fate=st.sampled_from(FATES),
    )
    def takes_in_a_batch(self, who: int, count: int, level: int, fate: str) -> None:
        writer = self.writers[who]
        if writer.claim is None and writer.places:
            spans = {at: self._read(writer, at, place, count, level) for at, place in writer.places.items()}
            writer.begin(Claim("cluster", {TOPIC: TopicId("id")}, spans, "b", writer.epoch))
        self.attempts(who, fate)

    def _read(self, writer: Writer, at: LogPartition, place: Place, count: int, level: int) -> Span:
        end = min(place.next + count, len(LOGS[at]))
        offsets = range(place.next, end)
        skipped = [offset for offset in offsets if LOGS[at][offset][0] in writer.defers(level)]
        taken = [offset for offset in offsets if offset not in skipped]
        rows = writer.fresh(at, taken)
        writer.rows += rows
        symbols = tuple(sorted({LOGS[at][offset][0] for offset in skipped}))
        raw_file = f"of {place.next} to {end}" if level == RAW_FROM and skipped else None
        entry = LedgerEntry(
            *at, Offset(place.next), Offset(end), symbols, level, "load", len(skipped), raw_file=raw_file
        )
        return Span(
            Offset(place.next),
            Offset(end),
            duplicates=len(taken) - len(rows),
            ledger=place.ledger,
            deferred=(entry,) if level and count else (),
            own_from=Offset(place.own_from),
        )

    @rule(
        who=st.integers(0, WRITERS - 1),
        which=st.integers(0, 5),
        offsets=st.integers(1, 8),
        fate=st.sampled_from(FATES),
    )
    def drains(self, who: int, which: int, offsets: int, fate: str) -> None:
        writer = self.writers[who]
        owed = [(at, entry) for at, place in writer.places.items() for entry in place.ledger]
        if writer.claim is None and owed:
            self._begin_drain(writer, owed, which, offsets)
        self.attempts(who, fate)

    def _begin_drain(
        self, writer: Writer, owed: list[tuple[LogPartition, LedgerEntry]], which: int, offsets: int
    ) -> None:
        at, entry = owed[which % len(owed)]
        end = min(entry.start + offsets, entry.end)
        taken = [offset for offset in owed_offsets(entry) if offset < end]
        writer.rows = writer.fresh(at, taken)
        paid = (Paid(entry, Offset(end), len(taken)),)
        place = writer.places[at]
        part = Drained(Offset(place.next), place.ledger, paid, duplicates=len(taken) - len(writer.rows))
        writer.begin(Repayment("cluster", {TOPIC: TopicId("id")}, {at: part}, "d", writer.epoch))

    @rule(who=st.integers(0, WRITERS - 1))
    def loads_the_head(self, who: int) -> None:
        """What its next attempt bases itself on, instead of on the head; others may commit before it does."""
        self.writers[who].base = self.version

    def attempts(self, who: int, fate: str) -> None:
        """Try to commit what a writer has in hand, as often as a rule says so."""
        writer = self.writers[who]
        if writer.claim is None or fate == "not tried":
            return
        base, writer.base = writer.base, None
        if base not in (None, self.version):  # the catalog refuses a stale base
            return
        if writer.tried and judge(self.state, writer.claim) is Outcome.LANDED:
            self._finish(writer)
            return
        verdict = decide(self.state, writer.claim)
        if isinstance(verdict, Fenced):  # everything is taken over anew
            writer.end()
            writer.epoch = self.state.epoch
            self._learn(writer, list(writer.places))
            return
        if isinstance(verdict, Superseded):
            writer.end()
            self._learn(writer, verdict.positions)
            return
        writer.tried = True
        if fate != "request lost":
            self._apply(writer, verdict)
        if fate == "answered":
            self._finish(writer)

    @rule(who=st.integers(0, WRITERS - 1), back=st.integers(1, 4), what=st.sampled_from((*["nothing"] * 5, "c", "r")))
    def something_happens(self, who: int, back: int, what: str) -> None:
        """Rarely a crash, or a person takes the table back."""
        if what == "c":
            self.writers[who] = Writer(self.writers[who].other)
        elif what == "r":
            self._take_back(back)

    def _take_back(self, back: int) -> None:
        """Go back to any earlier snapshot; what the table began since is kept at its beginning."""
        state, table = self.snapshots[-min(back, len(self.snapshots))]
        self.version += 1
        self.state = replace(restored(state, self.state), epoch=self.state.epoch + 1)
        self.table = list(table)
        self.snapshots.append((self.state, list(table)))

    def _apply(self, writer: Writer, verdict: Proceed) -> None:
        self.version += 1
        self.state = verdict.state
        self.table += writer.rows
        self.snapshots.append((self.state, list(self.table)))

    def _finish(self, writer: Writer) -> None:
        assert writer.claim is not None
        moved = writer.claim.spans if isinstance(writer.claim, Claim) else writer.claim.parts
        for at in moved:
            end = writer.claim.spans[at].end if isinstance(writer.claim, Claim) else writer.places[at].next
            writer.places[at] = Place(end, self.state.deferred(*at), writer.places[at].own_from)
        writer.seen |= {row[2] for row in writer.rows}
        writer.end()

    @invariant()
    def each_id_is_in_the_table_once_or_owed(self) -> None:
        ids = [row[2] for row in self.table]
        assert len(ids) == len(set(ids))
        for at in LOGS:
            held = [row for row in self.table if row[0] == at]
            owed = [offset for entry in self.state.deferred(*at) for offset in owed_offsets(entry)]
            assert not {row[1] for row in held} & set(owed)
            assert {row[2] for row in held} | ids_of(at, owed) == ids_of(at, range(self._next(at)))

    @invariant()
    def every_offset_is_accounted_for(self) -> None:
        for entry in self.state.open_ledger:
            assert entry.records == len(owed_offsets(entry))
            assert (entry.raw_file is not None) == (entry.level == RAW_FROM)
        for at in LOGS:
            account, held = self.state.partition(*at), sum(row[0] == at for row in self.table)
            assert (account.rows(owed_records(self.state.deferred(*at))) if account else 0) == held

    def teardown(self) -> None:
        """Whatever happened, one sink that drains all makes the table whole."""
        heir = Writer(epoch=self.state.epoch)
        self._learn(heir, LOGS)
        self.writers[0] = heir
        while any(place.ledger for place in heir.places.values()):
            self.drains(0, 0, 3, "answered")
        for at in LOGS:
            assert {row[2] for row in self.table if row[0] == at} == ids_of(at, range(self._next(at)))


TestWriters = Writers.TestCase
TestWriters.settings = settings(max_examples=500, stateful_step_count=60, deadline=None)
