"""The commit protocol's decisions, one fact a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from k2_core.errors import StateError
from k2_core.state import CommitState, LedgerEntry, PartitionState, TopicState
from k2_core.types import Offset, Partition, SnapshotId, TopicId, TopicName
from k2_sink.ledger import Paid
from k2_sink.protocol import (
    Claim,
    Drained,
    Fenced,
    Head,
    Outcome,
    Proceed,
    Repayment,
    Span,
    Superseded,
    current_state,
    decide,
    judge,
    starting_positions,
)

TOPIC = TopicName("market.crypto.trades.binance")
TOPIC_ID = TopicId("topic-id")
UID = "local/default/crypto"


def at(partition: int) -> tuple[TopicName, Partition]:
    return TOPIC, Partition(partition)


def state(positions: Mapping[int, int], duplicates: int = 0) -> CommitState:
    partitions = {
        Partition(n): PartitionState(Offset(position), duplicates=duplicates) for n, position in positions.items()
    }
    return CommitState("cluster", {TOPIC: TopicState(TOPIC_ID, partitions)})


def claim(
    spans: Mapping[int, tuple[int, int]], *, epoch: int = 0, topic_id: TopicId = TOPIC_ID, **counts: Any
) -> Claim:
    taken = {at(n): Span(Offset(start), Offset(end), **counts) for n, (start, end) in spans.items()}
    return Claim("cluster", {TOPIC: topic_id}, taken, "batch-1", epoch)


def owed(start: int, end: int, *symbols: str, records: int = 1, partition: int = 0) -> LedgerEntry:
    return LedgerEntry(TOPIC, Partition(partition), Offset(start), Offset(end), symbols, 2, "load", records)


def drain(
    position: int, ledger: tuple[LedgerEntry, ...], *paid: Paid, epoch: int = 0, topic_id: TopicId = TOPIC_ID
) -> Repayment:
    part = Drained(Offset(position), ledger, paid, duplicates=1, dead_letters=2)
    return Repayment("cluster", {TOPIC: topic_id}, {at(0): part}, "drain-1", epoch)


def head(
    found: CommitState | None = None,
    *,
    snapshots: tuple[int, ...] = (1,),
    ancestors: tuple[int, ...] = (1,),
    owner: str | None = UID,
    written_in: tuple[int, int] | None = (1, 1),
    sequence_number: int = 1,
) -> Head:
    return Head(
        snapshot_id=SnapshotId(ancestors[-1]) if ancestors else None,
        sequence_number=sequence_number,
        snapshots={SnapshotId(number) for number in snapshots},
        ancestors={SnapshotId(number) for number in ancestors},
        owner=owner,
        state=found,
        state_snapshot=(SnapshotId(written_in[0]), written_in[1]) if written_in else None,
    )


def test_an_empty_table_of_ours_starts_with_an_empty_state() -> None:
    assert current_state(head(snapshots=(), ancestors=(), written_in=None), UID, "cluster") == CommitState("cluster")


def test_a_head_that_descends_from_its_states_snapshot_stands_for_that_state() -> None:
    found = state({0: 5})
    assert current_state(head(found, snapshots=(1, 2), ancestors=(1, 2)), UID, "cluster") is found


def test_a_state_whose_snapshot_expired_still_counts() -> None:
    found = state({0: 5})
    expired = head(found, snapshots=(7,), ancestors=(7,), written_in=(1, 4), sequence_number=6)
    assert current_state(expired, UID, "cluster") is found


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param(head(state({0: 5}), owner="other"), "found pipeline other", id="foreign owner"),
        pytest.param(head(state({0: 5}), owner=None), "found pipeline nobody", id="no owner"),
        pytest.param(head(None), "found none on a table with snapshot 1", id="rows without a state"),
        pytest.param(
            head(state({0: 5}), snapshots=(1, 2), ancestors=(1,), written_in=(2, 2)),
            "found snapshot 1, expected a descendant of 2",
            id="rolled back",
        ),
        pytest.param(
            head(state({0: 5}), snapshots=(1,), ancestors=(1,), written_in=(2, 2), sequence_number=1),
            "expected a descendant of 2",
            id="rolled back and expired",
        ),
        pytest.param(head(state({0: 5}), written_in=None), "k2.state-snapshot", id="no snapshot named"),
    ],
)
def test_a_head_that_cannot_be_trusted_is_refused(wrong: Head, says: str) -> None:
    with pytest.raises(StateError, match=says):
        current_state(wrong, UID, "cluster")


def test_another_clusters_offsets_are_refused() -> None:
    with pytest.raises(StateError, match="found elsewhere, expected cluster"):
        current_state(head(state({0: 5})), UID, "elsewhere")


def test_reading_starts_where_the_table_stands_and_else_where_the_log_does() -> None:
    starts = {at(0): Offset(2), at(1): Offset(3)}
    ends = {at(0): Offset(9), at(1): Offset(9)}
    assert starting_positions(state({0: 5}), {TOPIC: TOPIC_ID}, starts, ends) == {at(0): 5, at(1): 3}


@pytest.mark.parametrize(
    ("position", "log_start", "end"),
    [pytest.param(5, 6, 9, id="retention went past it"), pytest.param(5, 0, 4, id="log is shorter than it was")],
)
def test_a_log_without_the_next_offset_is_refused(position: int, log_start: int, end: int) -> None:
    with pytest.raises(StateError, match=f"expected it to hold offset {position}"):
        starting_positions(state({0: position}), {TOPIC: TOPIC_ID}, {at(0): Offset(log_start)}, {at(0): Offset(end)})


def test_a_topic_that_was_made_again_is_refused() -> None:
    with pytest.raises(StateError, match="found id other, expected topic-id"):
        starting_positions(state({0: 5}), {TOPIC: TopicId("other")}, {at(0): Offset(0)}, {at(0): Offset(9)})


def test_a_batch_that_follows_on_proceeds_and_moves_only_its_own_partitions() -> None:
    verdict = decide(state({0: 5, 1: 7}), claim({0: (5, 9)}, duplicates=1, dead_letters=1, markers=1))
    assert isinstance(verdict, Proceed)
    assert verdict.state.topics[TOPIC].partitions == {
        0: PartitionState(Offset(9), duplicates=1, dead_letters=1, markers=1),
        1: PartitionState(Offset(7)),
    }
    assert verdict.state.batch_id == "batch-1"


def test_the_first_batch_of_a_partition_sets_its_origin() -> None:
    verdict = decide(CommitState("cluster"), claim({3: (40, 50)}))
    assert isinstance(verdict, Proceed)
    assert verdict.state.partition(*at(3)) == PartitionState(Offset(50), origin=Offset(40))


def test_counts_add_up_over_commits() -> None:
    verdict = decide(state({0: 5}, duplicates=2), claim({0: (5, 9)}, duplicates=3))
    assert isinstance(verdict, Proceed)
    found = verdict.state.partition(*at(0))
    assert found is not None
    assert (found.duplicates, found.rows()) == (5, 4)


def test_a_batch_behind_another_writer_is_superseded_with_where_to_go_on() -> None:
    verdict = decide(state({0: 9, 1: 7}), claim({0: (5, 9), 1: (7, 8)}))
    assert verdict == Superseded({at(0): Offset(9), at(1): Offset(7)})


def test_a_batch_ahead_of_the_table_is_superseded_too() -> None:
    assert decide(state({0: 3}), claim({0: (5, 9)})) == Superseded({at(0): Offset(3)})


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        pytest.param({0: 9, 1: 8}, Outcome.LANDED, id="all at the end"),
        pytest.param({0: 5, 1: 7}, Outcome.UNMOVED, id="all at the start"),
        pytest.param({0: 9, 1: 7}, Outcome.SUPERSEDED, id="one of two moved"),
        pytest.param({0: 6, 1: 7}, Outcome.SUPERSEDED, id="moved elsewhere"),
    ],
)
def test_an_unclear_attempt_is_judged_by_positions(positions: Mapping[int, int], expected: Outcome) -> None:
    assert judge(state(positions), claim({0: (5, 9), 1: (7, 8)})) is expected


def test_a_partition_that_the_batch_does_not_move_says_nothing_of_what_became_of_it() -> None:
    assert judge(state({0: 9, 1: 7}), claim({0: (5, 9), 1: (7, 7)})) is Outcome.LANDED


@pytest.mark.parametrize("epoch", [0, 2], ids=["older", "newer"])
def test_a_batch_of_another_epoch_is_fenced_wherever_it_starts_and_ends(epoch: int) -> None:
    recovered = replace(state({0: 5}), epoch=1)
    for span in ((5, 9), (0, 5), (3, 4)):
        assert decide(recovered, claim({0: span}, epoch=epoch)) == Fenced(1)
        assert judge(recovered, claim({0: span}, epoch=epoch)) is Outcome.SUPERSEDED
    assert isinstance(decide(recovered, claim({0: (5, 9)}, epoch=1)), Proceed)


def test_a_batch_of_a_topic_that_was_made_again_is_fenced() -> None:
    again = TopicId("made-again")
    assert decide(state({0: 5}), claim({0: (5, 9)}, topic_id=again)) == Fenced(0)
    assert judge(state({0: 9}), claim({0: (5, 9)}, topic_id=again)) is Outcome.SUPERSEDED
    assert isinstance(decide(CommitState("cluster"), claim({0: (5, 9)}, topic_id=again)), Proceed)


def test_what_is_deferred_is_owed_from_the_commit_that_passes_it() -> None:
    foreign = owed(0, 3, "B", partition=1)
    before = replace(state({0: 5, 1: 7}), open_ledger=(foreign,))
    taken = {at(0): Span(Offset(5), Offset(9), deferred=(owed(5, 9, "A", records=2),))}
    verdict = decide(before, Claim("cluster", {TOPIC: TOPIC_ID}, taken, "batch-1"))
    assert isinstance(verdict, Proceed)
    assert verdict.state.open_ledger == (foreign, owed(5, 9, "A", records=2))
    assert verdict.state.partition(*at(0)) == PartitionState(Offset(9))


def test_a_batch_that_did_not_know_of_a_drain_is_superseded() -> None:
    span = Span(Offset(5), Offset(9), ledger=(owed(0, 3, "A"),))
    unaware = Claim("cluster", {TOPIC: TOPIC_ID}, {at(0): span}, "batch-1")
    assert decide(state({0: 5}), unaware) == Superseded({at(0): Offset(5)})
    assert judge(state({0: 9}), unaware) is Outcome.SUPERSEDED


def test_a_batch_of_the_same_end_that_deferred_is_not_this_one() -> None:
    deferred = replace(state({0: 9}), open_ledger=(owed(5, 9, "A"),))
    assert judge(deferred, claim({0: (5, 9)})) is Outcome.SUPERSEDED
    assert judge(state({0: 9}), claim({0: (5, 9)})) is Outcome.LANDED


def test_a_drain_takes_its_entry_off_and_counts_what_became_no_row() -> None:
    ledger = (owed(0, 3, "A", records=2), owed(3, 5, "B"))
    foreign = owed(0, 3, "B", partition=1)
    before = replace(state({0: 5, 1: 7}), open_ledger=(ledger[0], foreign, ledger[1]))
    claimed = drain(5, ledger, Paid(ledger[0], Offset(2), 1))
    verdict = decide(before, claimed)
    assert isinstance(verdict, Proceed)
    assert verdict.state.open_ledger == (owed(2, 3, "A"), foreign, ledger[1])
    assert verdict.state.partition(*at(0)) == PartitionState(Offset(5), duplicates=1, dead_letters=2)
    assert verdict.state.batch_id == "drain-1"
    assert judge(before, claimed) is Outcome.UNMOVED
    assert judge(verdict.state, claimed) is Outcome.LANDED


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(replace(state({0: 6}), open_ledger=(owed(0, 3, "A"),)), id="a batch was faster"),
        pytest.param(state({0: 5}), id="another drain was faster"),
        pytest.param(replace(state({0: 5}), open_ledger=(owed(1, 3, "A"),)), id="another drain took a part"),
    ],
)
def test_a_drain_beside_another_writer_is_superseded(moved: CommitState) -> None:
    entry = owed(0, 3, "A")
    unaware = drain(5, (entry,), Paid(entry, Offset(2), 1))
    assert isinstance(decide(moved, unaware), Superseded)
    assert judge(moved, unaware) is Outcome.SUPERSEDED


def test_a_drain_of_another_epoch_or_topic_is_fenced() -> None:
    entry = owed(0, 3, "A")
    stands = replace(state({0: 5}), open_ledger=(entry,), epoch=1)
    assert decide(stands, drain(5, (entry,), Paid(entry, Offset(3), 1))) == Fenced(1)
    again = drain(5, (entry,), Paid(entry, Offset(3), 1), epoch=1, topic_id=TopicId("made-again"))
    assert decide(stands, again) == Fenced(1)
    assert judge(replace(state({0: 5}), epoch=1), again) is Outcome.SUPERSEDED


def test_a_log_that_lost_something_owed_is_refused_with_the_way_out() -> None:
    lost = replace(state({0: 9}), open_ledger=(owed(2, 6, "A", records=3),))
    starts, ends = {at(0): Offset(3)}, {at(0): Offset(9)}
    with pytest.raises(StateError, match=rf"\[2, 6\) of which 3 records are owed.*`k2 adopt-topic {TOPIC}`"):
        starting_positions(lost, {TOPIC: TOPIC_ID}, starts, ends)
    assert starting_positions(lost, {TOPIC: TOPIC_ID}, {at(0): Offset(2)}, ends) == {at(0): 9}
    kept = replace(lost, open_ledger=(replace(lost.open_ledger[0], raw_file="raw"),))
    assert starting_positions(kept, {TOPIC: TOPIC_ID}, starts, ends) == {at(0): 9}
