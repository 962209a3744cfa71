from __future__ import annotations

import pytest

from k2_core.spec import KafkaSpec
from k2_core.types import Offset, Partition, TopicName
from k2_operator.signals import Answer, Log, Positions, Question, Secrets, behind, drained, reached

T = TopicName("t")


def at(*offsets: int | None) -> dict[tuple[TopicName, Partition], Offset]:
    return {(T, Partition(n)): Offset(offset) for n, offset in enumerate(offsets) if offset is not None}


@pytest.mark.parametrize(
    ("starts", "ends", "positions", "expected"),
    [
        pytest.param(at(0, 0), at(10, 5), at(4, 5), 6, id="a backlog"),
        pytest.param(at(0), at(10), at(10), 0, id="none"),
        pytest.param(at(0), at(10), at(12), 0, id="ahead of an older end"),
        pytest.param(at(0, 0), at(10, 0), at(10), 0, id="an empty partition without a position"),
        pytest.param(at(7, 7), at(10, 7), at(10), 0, id="an expired partition without a position"),
        pytest.param(at(0), at(10), at(), None, id="missing is unknown"),
        pytest.param(at(8), at(10), at(3), 2, id="what the log lost is not counted"),
        pytest.param(at(), at(), at(), 0, id="no topic"),
    ],
)
def test_behind(starts: Positions, ends: Positions, positions: Positions, expected: int | None) -> None:
    assert behind(starts, ends, positions) == expected


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        pytest.param(at(10), True, id="there"),
        pytest.param(at(9), False, id="not yet"),
        pytest.param(at(), None, id="unknown"),
    ],
)
def test_reached(positions: dict[tuple[TopicName, Partition], Offset], expected: bool | None) -> None:
    assert reached(positions, at(10), at(0)) is expected


@pytest.mark.parametrize(
    ("committed", "owed", "expected"),
    [
        pytest.param(at(10), 0, True, id="all is in the table"),
        pytest.param(at(10), 3, False, id="levels put some off"),
        pytest.param(at(10), None, None, id="nobody has said how much was put off"),
        pytest.param(at(9), 0, False, id="not yet"),
        pytest.param(at(9), None, False, id="not yet, whatever is owed"),
        pytest.param(at(), 0, None, id="unknown"),
    ],
)
def test_drained(committed: dict[tuple[TopicName, Partition], Offset], owed: int | None, expected: bool | None) -> None:
    assert drained(Log(at(0), at(99), at(99), committed, owed=owed), at(10)) is expected


def test_lags_of_a_log() -> None:
    log = Log(at(0), at(10), at(8), at(5))
    assert (log.unread, log.uncommitted) == (2, 5)


def answer(partitions: dict[TopicName, int] | None) -> Answer:
    kafka = KafkaSpec(bootstrap_servers="k:1")
    question = Question("ns", kafka, (T,), {T: 4}, "read", "committed", {})
    return Answer(question, 0.0, Secrets(), partitions)


def test_topics() -> None:
    assert answer(None).topics_ready is False
    assert answer({}).missing_topics == [T]
    assert answer({T: 3}).small_topics == {T: (3, 4)}
    assert answer({T: 3}).topics_ready is False
    assert answer({T: 4}).topics_ready is True
    assert answer({T: 5}).large_topics == {T: (5, 4)}
    assert answer({T: 5}).topics_ready is True
