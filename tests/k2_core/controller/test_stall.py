"""When sinks hang: unread records, nothing read and nobody who speaks, for long enough; and what is no hang."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_core.controller.lag import PartitionLag
from k2_core.controller.look import Look
from k2_core.controller.stall import STALLED_AFTER_S, Stall, StallWatch
from k2_core.sink_report import FRESH_S, SinkReport
from k2_core.types import Offset, Partition, TopicName

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = TopicName("market.crypto.trades.binance")


def look(
    seconds: float,
    read: int | None = 40,
    end: int = 100,
    spoke: float | None = -FRESH_S,
    *,
    members: int = 1,
    rebalancing: bool = False,
) -> Look:
    """Return a look so many seconds after the first, at a sink that spoke last at a moment counted likewise."""
    position = None if read is None else Offset(read)
    partition = PartitionLag((T, Partition(0)), Offset(0), Offset(end), position, position, 1.0, 1.0)
    reports = {} if spoke is None else {"pod-1/1/ab": SinkReport("pod-1/1/ab", AT + timedelta(seconds=spoke))}
    return Look(AT + timedelta(seconds=seconds), (partition,), reports, members, rebalancing)


def watched(*looks: Look) -> Stall | None:
    watch, found = StallWatch(), None
    for one in looks:
        found = watch.seen(one)
    return found


def test_it_is_one_after_half_a_minute_and_says_who_spoke_last() -> None:
    looks = [look(seconds) for seconds in range(32)]
    assert watched(*looks[:31]) is None  # the first look has none before it to compare with
    assert watched(*looks) == Stall(30.0, 60, ("pod-1/1/ab",))
    assert watched(*looks, look(90, end=1_234)) == Stall(89.0, 1_194, ("pod-1/1/ab",))
    assert str(watched(*looks)) == (
        "for 30 s no sink has read any of 60 unread records or said anything; the last to speak was pod-1/1/ab. "
        "See its log; if nothing goes on there, end its process: it is started again, and nothing is lost"
    )


@pytest.mark.parametrize(
    "sign_of_life",
    [
        pytest.param(look(20, read=41), id="a record read"),
        pytest.param(look(20, spoke=20 - FRESH_S + 0.1), id="a word"),
        pytest.param(look(20, end=40), id="nothing to read"),
        pytest.param(look(20, rebalancing=True), id="a rebalance"),
        pytest.param(look(20, read=None), id="a position that is not known"),
    ],
)
def test_a_sign_of_life_begins_it_anew(sign_of_life: Look) -> None:
    watch = StallWatch()
    for one in (look(0), look(1), sign_of_life):
        assert watch.seen(one) is None
    assert watch.seen(look(40)) is None
    assert watch.seen(look(41)) is None
    assert watch.seen(look(40 + STALLED_AFTER_S - 0.1)) is None
    assert watch.seen(look(41 + STALLED_AFTER_S)) is not None


def test_a_sink_that_left_its_group_hangs_no_less() -> None:
    assert watched(look(0), look(1), look(40, members=0)) is not None


def test_of_sinks_that_were_there_before_none_is_named() -> None:
    last = look(40)
    old = SinkReport("pod-0/1/cd", AT - timedelta(hours=2))
    beside = SinkReport("pod-2/1/ef", AT - timedelta(seconds=FRESH_S + 1))
    found = watched(look(0), look(1), Look(last.at, last.partitions, {**last.reports, old.sink: old, "x": beside}, 2))
    assert found is not None
    assert found.sinks == ("pod-1/1/ab", "x")


def test_a_position_without_any_word() -> None:
    found = watched(look(0, spoke=None), look(1, spoke=None), look(40, spoke=None))
    assert found is not None
    assert found.sinks == ()
    assert "; no sink has ever spoken. See its log" in str(found)


def test_a_clock_that_was_set_back_begins_it_anew() -> None:
    first, second, back = (look(seconds, spoke=-9_000) for seconds in (0, 1, -3_600))
    assert watched(first, second, back, look(-3_595, spoke=-9_000)) is None
    assert watched(first, second, back, look(-3_570, spoke=-9_000)) == Stall(30.0, 60, ("pod-1/1/ab",))
