"""The commit state as JSON: a golden example, round trips, and whatever is no state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import StateError
from k2_core.state import FORMAT, CommitState, LedgerEntry, Loss, PartitionState, TopicState, owed_records
from k2_core.types import Offset, Partition, TopicId, TopicName

GOLDEN: Final = Path(__file__).parent.parent / "data" / "state_v1.json"
TRADES_TOPIC: Final = TopicName("market.crypto.trades.binance")
QUOTES_TOPIC: Final = TopicName("market.equities.quotes.asx")
EXAMPLE: Final = CommitState(
    cluster_id="MkU3OEVBNTcwNTJENDM2Qg",
    topics={
        TRADES_TOPIC: TopicState(
            TopicId("T-0aRIPYQ7yTsP3mdXGvnQ"),
            {
                Partition(0): PartitionState(Offset(1200), duplicates=3, markers=1),
                Partition(1): PartitionState(Offset(34419), origin=Offset(400), dead_letters=2, lost=10),
                Partition(11): PartitionState(Offset(7), markers=7),
            },
        ),
        QUOTES_TOPIC: TopicState(TopicId("0lTz5jYNQ0-1TjeRt5MOJw"), {Partition(0): PartitionState(Offset(0))}),
    },
    open_ledger=(
        LedgerEntry(
            TRADES_TOPIC,
            Partition(1),
            Offset(30000),
            Offset(34000),
            ("DOGEUSDT", "SHIBUSDT"),
            3,
            "unread 120000 records",
            2750,
            1764088369000,
            1764088301500,
            "s3://lake/raw/1-30000.avro",
        ),
        LedgerEntry(TRADES_TOPIC, Partition(0), Offset(1100), Offset(1200), ("DOGEUSDT",), 2, "unread 31 s", 12, 5, 4),
    ),
    batch_id="sink-0/42",
    epoch=2,
)

EXAMPLE_PARTITIONS: Final = EXAMPLE.topics[TRADES_TOPIC].partitions
EXAMPLE_ENTRY: Final = json.loads(GOLDEN.read_text())["open_ledger"][0]
COUNTS = st.integers(0, 2**62)
PARTITIONS = st.builds(
    PartitionState,
    next=COUNTS.map(Offset),
    origin=COUNTS.map(Offset),
    duplicates=COUNTS,
    dead_letters=COUNTS,
    aged=COUNTS,
    markers=COUNTS,
    lost=COUNTS,
    unexplained=COUNTS,
)
PARTITION_STATES = st.dictionaries(st.integers(0, 999).map(Partition), PARTITIONS, max_size=5)
STATES = st.builds(
    CommitState,
    cluster_id=st.text(max_size=30),
    topics=st.dictionaries(
        st.text(min_size=1, max_size=30).map(TopicName),
        st.builds(
            TopicState,
            st.text(max_size=22).map(TopicId),
            PARTITION_STATES,
            st.dictionaries(st.text(max_size=22).map(TopicId), PARTITION_STATES, max_size=2),
        ),
        max_size=3,
    ),
    open_ledger=st.lists(
        st.builds(
            LedgerEntry,
            topic=st.text(max_size=9).map(TopicName),
            partition=st.integers(0, 999).map(Partition),
            start=COUNTS.map(Offset),
            end=COUNTS.map(Offset),
            symbols=st.lists(st.text(max_size=9), max_size=3).map(tuple),
            level=st.integers(0, 4),
            reason=st.text(max_size=20),
            records=COUNTS,
            since_ms=COUNTS,
            oldest_ms=COUNTS,
            raw_file=st.none() | st.text(min_size=1, max_size=20),
        ),
        max_size=3,
    ).map(tuple),
    batch_id=st.text(max_size=20),
    epoch=st.integers(0, 1000),
    losses=st.lists(
        st.builds(
            Loss,
            topic=st.text(max_size=9).map(TopicName),
            topic_id=st.text(max_size=22).map(TopicId),
            partition=st.integers(0, 999).map(Partition),
            start=COUNTS.map(Offset),
            end=st.none() | COUNTS.map(Offset),
            reason=st.text(max_size=20),
        ),
        max_size=3,
    ).map(tuple),
)


class TestGolden:
    """Format 1 as it lies in tables today: later versions must read it."""

    def test_parse(self) -> None:
        assert CommitState.parse(GOLDEN.read_text()) == EXAMPLE

    def test_dump(self) -> None:
        assert EXAMPLE.dump() == GOLDEN.read_text().strip()

    def test_rows_that_left_are_counted_where_they_came_from(self) -> None:
        """And what came from topics that the state does not know is nobody's."""
        again = TopicId("again")
        topic = TopicState(again, {Partition(0): PartitionState(Offset(9))}, {TopicId("i"): EXAMPLE_PARTITIONS})
        left = {(again, Partition(0)): 2, (TopicId("i"), Partition(1)): 5, (TopicId("else"), Partition(0)): 7}
        state = CommitState("c", {TRADES_TOPIC: topic}, epoch=3).with_aged(left, "b")
        found = state.topics[TRADES_TOPIC]
        assert (state.batch_id, state.epoch, found.id) == ("b", 3, again)
        assert {at: one.aged for at, one in found.partitions.items()} == {0: 2}
        assert {at: one.aged for at, one in found.former[TopicId("i")].items()} == {0: 0, 1: 5, 11: 0}
        before = EXAMPLE_PARTITIONS[Partition(1)]
        assert found.former[TopicId("i")][Partition(1)].rows() == before.rows() - 5


class TestRoundTrip:
    @given(STATES)
    def test_any_state(self, state: CommitState) -> None:
        assert CommitState.parse(state.dump()) == state

    def test_what_a_topic_was_before_stays_when_its_partitions_change(self) -> None:
        former = {TopicId("old"): {Partition(0): PartitionState(Offset(7), unexplained=2)}}
        before = CommitState("c", {TRADES_TOPIC: TopicState(TopicId("new"), {}, former)})
        after = before.with_partitions(TRADES_TOPIC, TopicId("new"), {Partition(1): PartitionState(Offset(3))}, "b")
        assert after.topics[TRADES_TOPIC].former == former
        assert former[TopicId("old")][Partition(0)].rows() == 5

    def test_the_first_state_of_a_table(self) -> None:
        assert CommitState.parse(CommitState("c").dump()) == CommitState("c")

    def test_zeros_take_no_room(self) -> None:
        state = CommitState("c", {TRADES_TOPIC: TopicState(TopicId("i"), {Partition(0): PartitionState(Offset(5))})})
        assert json.loads(state.dump())["topics"][TRADES_TOPIC] == {"id": "i", "next": {"0": 5}}

    def test_partitions_and_topics_have_one_order(self) -> None:
        one, two = PartitionState(Offset(1)), PartitionState(Offset(2))
        forward = {Partition(2): two, Partition(10): one}
        backward = {Partition(10): one, Partition(2): two}
        first = CommitState(
            "c", {TRADES_TOPIC: TopicState(TopicId("i"), forward), QUOTES_TOPIC: TopicState(TopicId("j"))}
        )
        second = CommitState(
            "c", {QUOTES_TOPIC: TopicState(TopicId("j")), TRADES_TOPIC: TopicState(TopicId("i"), backward)}
        )
        assert first.dump() == second.dump()


def edited(**changes: Any) -> str:
    document = json.loads(GOLDEN.read_text())
    for key, value in changes.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    return json.dumps(document)


class TestRefused:
    @pytest.mark.parametrize("other", [0, FORMAT + 1, "1", None], ids=str)
    def test_another_format_says_what_to_do(self, other: Any) -> None:
        with pytest.raises(StateError, match=f"found format {other!r}, expected 1; use a K2 that reads it"):
            CommitState.parse(json.dumps(json.loads(GOLDEN.read_text()) | {"format": other}))

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param("{", id="cut"),
            pytest.param("[]", id="list"),
            pytest.param("7", id="number"),
            pytest.param("null", id="null"),
            pytest.param('"format"', id="text"),
            pytest.param("{}", id="nothing-in-it"),
            pytest.param(edited(topics=None), id="no-topics"),
            pytest.param(edited(topics=[]), id="topics-as-list"),
            pytest.param(edited(topics={"t": {"id": "i"}}), id="no-next"),
            pytest.param(edited(topics={"t": {"id": "i", "next": {"one": 1}}}), id="partition-as-word"),
            pytest.param(edited(topics={"t": {"id": "i", "next": [1]}}), id="next-as-list"),
            pytest.param(edited(open_ledger=[{}]), id="empty-entry"),
            pytest.param(edited(open_ledger=[1]), id="entry-as-number"),
            pytest.param(edited(open_ledger=[EXAMPLE_ENTRY | {"symbols": [None]}]), id="symbol-null"),
            pytest.param(edited(cluster_id=None), id="no-cluster"),
            pytest.param(edited(epoch=None), id="no-epoch"),
        ],
    )
    def test_garbage(self, text: str) -> None:
        with pytest.raises(StateError, match=r"commit state: found .*, expected"):
            CommitState.parse(text)

    def test_only_the_beginning_is_shown(self) -> None:
        with pytest.raises(StateError) as caught:
            CommitState.parse('{"format":1,' + '"x":"' + "y" * 100_000 + '"}')
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"topics": {"t": {"id": "i", "next": {"0": "12"}}}}, id="position-as-text"),
            pytest.param({"topics": {"t": {"id": "i", "next": {"0": 1.5}}}}, id="position-as-fraction"),
            pytest.param({"topics": {"t": {"id": "i", "next": {"0": None}}}}, id="position-null"),
            pytest.param({"topics": {"t": {"id": "i", "next": {"0": True}}}}, id="position-as-truth"),
            pytest.param({"topics": {"t": {"id": "i", "next": {"0": -1}}}}, id="position-negative"),
            pytest.param({"topics": {"t": {"id": "i", "next": {"0": 1}, "markers": {"0": "x"}}}}, id="count-as-text"),
            pytest.param({"epoch": "2"}, id="epoch-as-text"),
            pytest.param({"open_ledger": [EXAMPLE_ENTRY | {"to": "9"}]}, id="range-as-text"),
            pytest.param({"open_ledger": [EXAMPLE_ENTRY | {"level": None}]}, id="level-null"),
            pytest.param({"open_ledger": [EXAMPLE_ENTRY | {"records": -1}]}, id="records-below-0"),
        ],
    )
    def test_numbers_that_are_none(self, changes: dict[str, Any]) -> None:
        with pytest.raises(StateError, match=r"ValueError.*expected a whole number from 0"):
            CommitState.parse(edited(**changes))


class TestAccount:
    def test_rows_are_what_is_left(self) -> None:
        account = PartitionState(Offset(100), Offset(10), duplicates=1, dead_letters=2, markers=3, lost=4)
        assert (account.rows(), account.rows(deferred=5)) == (80, 75)

    def test_a_partition(self) -> None:
        assert EXAMPLE.partition(TRADES_TOPIC, Partition(11)) == PartitionState(Offset(7), markers=7)

    @pytest.mark.parametrize(
        ("topic", "partition"), [(TRADES_TOPIC, 2), (TopicName("other"), 0)], ids=["partition", "topic"]
    )
    def test_what_was_never_taken_in(self, topic: TopicName, partition: int) -> None:
        assert EXAMPLE.partition(topic, Partition(partition)) is None

    def test_foreign_partitions_are_copied(self) -> None:
        changed = EXAMPLE.with_partitions(
            TRADES_TOPIC, TopicId("new"), {Partition(0): PartitionState(Offset(1300))}, "sink-1/7"
        )
        assert changed.partition(TRADES_TOPIC, Partition(0)) == PartitionState(Offset(1300))
        assert changed.partition(TRADES_TOPIC, Partition(1)) == EXAMPLE.partition(TRADES_TOPIC, Partition(1))
        assert changed.topics[QUOTES_TOPIC] == EXAMPLE.topics[QUOTES_TOPIC]
        assert (changed.topics[TRADES_TOPIC].id, changed.batch_id) == ("new", "sink-1/7")
        assert (changed.open_ledger, changed.epoch) == (EXAMPLE.open_ledger, EXAMPLE.epoch)

    def test_a_new_topic(self) -> None:
        found = CommitState("c").with_partitions(
            TRADES_TOPIC, TopicId("i"), {Partition(4): PartitionState(Offset(9))}, "b"
        )
        assert found.partition(TRADES_TOPIC, Partition(4)) == PartitionState(Offset(9))

    def test_deferred_entries_of_one_partition(self) -> None:
        assert EXAMPLE.deferred(TRADES_TOPIC, Partition(0)) == (EXAMPLE.open_ledger[1],)
        assert EXAMPLE.deferred(QUOTES_TOPIC, Partition(0)) == ()

    def test_what_entries_owe_are_their_records_not_their_offsets(self) -> None:
        assert owed_records(EXAMPLE.open_ledger) == 2762
