"""Writers, lost answers, zombies, takeovers, rollbacks: every offset is committed exactly once, in any order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from k2_cli.recovery.rebuild import restored
from k2_core.state import CommitState
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.protocol import Claim, Fenced, LogPartition, Outcome, Proceed, Span, Superseded, decide, judge

TOPIC = TopicName("t")
PARTITIONS = 3
WRITERS = 3


@dataclass
class Writer:
    """A sink: where it reads on each partition, and the attempt whose answer it has not heard."""

    positions: dict[LogPartition, int] = field(default_factory=dict)
    claim: Claim | None = None
    base: int | None = None
    tried: bool = False
    epoch: int = 0


class Writers(RuleBasedStateMachine):
    """A table as a version, a state and the offsets it holds; commits compare the version, as a catalog does."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.state = CommitState("cluster")
        self.held: list[tuple[LogPartition, int]] = []
        self.snapshots: list[tuple[CommitState, list[tuple[LogPartition, int]]]] = [(self.state, [])]
        self.writers = [Writer() for _ in range(WRITERS)]

    def _next(self, at: LogPartition) -> int:
        known = self.state.partition(*at)
        return known.next if known else 0

    @rule(who=st.integers(0, WRITERS - 1), partition=st.integers(0, PARTITIONS - 1))
    def takes_a_partition(self, who: int, partition: int) -> None:
        """A rebalance, honest or not: the former owner is not told."""
        at = (TOPIC, Partition(partition))
        writer = self.writers[who]
        if writer.claim is None:
            if not writer.positions:
                writer.epoch = self.state.epoch
            writer.positions[at] = self._next(at)

    @rule(who=st.integers(0, WRITERS - 1), counts=st.lists(st.integers(0, 3), min_size=PARTITIONS, max_size=PARTITIONS))
    def reads_a_batch(self, who: int, counts: list[int]) -> None:
        writer = self.writers[who]
        if writer.claim is None and writer.positions:
            spans = {
                at: Span(Offset(position), Offset(position + counts[at[1]]))
                for at, position in writer.positions.items()
            }
            writer.claim = Claim("cluster", {TOPIC: TopicId("id")}, spans, "b", writer.epoch)
            writer.tried = False

    @rule(who=st.integers(0, WRITERS - 1))
    def loads_the_head(self, who: int) -> None:
        """What an attempt bases itself on; others may commit before it does."""
        self.writers[who].base = self.version

    @rule(who=st.integers(0, WRITERS - 1), answer_lost=st.booleans())
    def attempts(self, who: int, answer_lost: bool) -> None:
        writer = self.writers[who]
        if writer.claim is None or writer.base is None:
            return
        if writer.base != self.version:  # the catalog refuses a stale base
            writer.base = None
            return
        if writer.tried and judge(self.state, writer.claim) is Outcome.LANDED:
            self._finish(writer)
            return
        verdict = decide(self.state, writer.claim)
        if isinstance(verdict, Fenced):  # everything is taken over anew
            writer.positions = {at: self._next(at) for at in writer.positions}
            writer.epoch = self.state.epoch
            writer.claim = writer.base = None
            return
        if isinstance(verdict, Superseded):
            writer.positions.update(verdict.positions)
            writer.claim = writer.base = None
            return
        self._apply(writer.claim, verdict)
        writer.tried = True
        writer.base = None
        if not answer_lost:
            self._finish(writer)

    @rule(back=st.integers(1, 4))
    def is_taken_back_by_a_person(self, back: int) -> None:
        """To any earlier snapshot; what the table began since is kept at its beginning."""
        state, held = self.snapshots[-min(back, len(self.snapshots))]
        self.version += 1
        self.state = replace(restored(state, self.state), epoch=self.state.epoch + 1)
        self.held = list(held)
        self.snapshots.append((self.state, list(held)))

    @rule(who=st.integers(0, WRITERS - 1))
    def crashes(self, who: int) -> None:
        self.writers[who] = Writer()

    def _apply(self, claim: Claim, verdict: Proceed) -> None:
        self.version += 1
        self.state = verdict.state
        for at, span in claim.spans.items():
            self.held += [(at, offset) for offset in range(span.start, span.end)]
        self.snapshots.append((self.state, list(self.held)))

    def _finish(self, writer: Writer) -> None:
        assert writer.claim is not None
        writer.positions.update({at: span.end for at, span in writer.claim.spans.items()})
        writer.claim = writer.base = None

    @invariant()
    def each_offset_is_held_exactly_once(self) -> None:
        expected = {
            ((TOPIC, Partition(number)), offset)
            for number in range(PARTITIONS)
            for offset in range(self._next((TOPIC, Partition(number))))
        }
        assert len(self.held) == len(set(self.held))
        assert set(self.held) == expected


TestWriters = Writers.TestCase
TestWriters.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
