"""k2_cli.backlog."""

from __future__ import annotations

import pytest

from k2_cli.backlog import Backlog, backlogs, total
from k2_core.types import Offset, Partition, TopicName

TOPIC = TopicName("t")


def offsets(**values: int) -> dict[Partition, Offset]:
    return {Partition(int(name[1:])): Offset(value) for name, value in values.items()}


def test_unread_and_uncommitted_are_two_distances() -> None:
    [first, second] = backlogs(
        TOPIC, offsets(p0=5, p1=0), offsets(p1=10, p0=100), offsets(p0=90), offsets(p0=70, p1=10)
    )
    assert first == Backlog(TOPIC, Partition(0), Offset(5), Offset(100), Offset(90), Offset(70))
    assert (first.unread, first.uncommitted) == (10, 30)
    assert (second.unread, second.uncommitted) == (None, 0)


def test_a_position_beyond_an_end_that_was_read_earlier_is_no_negative_lag() -> None:
    [ahead] = backlogs(TOPIC, offsets(p0=0), offsets(p0=10), offsets(p0=12), offsets(p0=11))
    assert (ahead.unread, ahead.uncommitted) == (0, 0)


@pytest.mark.parametrize(
    ("values", "sum_"),
    [
        pytest.param([1, 2], 3, id="known"),
        pytest.param([1, None], None, id="a part is unknown"),
        pytest.param([], 0, id="nothing to be behind"),
    ],
)
def test_a_sum_with_an_unknown_part_is_unknown(values: list[int | None], sum_: int | None) -> None:
    assert total(values) == sum_
