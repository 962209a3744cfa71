"""What one sink can do, learnt from what it did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from k2_core.policy.thresholds import ScalingConfig
from k2_core.policy.throughput import Throughputs, at_least_per_s, learn, seen_per_s, throughput_per_s
from k2_core.types import Level
from support.policy import QUIET

NOTHING = (None,) * len(Level)
UNSET = ScalingConfig()


def learnt(known: Throughputs, saturated_s: float | None, *, level: Level = Level.NORMAL) -> Throughputs:
    """What is known after a look at 1,000 records/s a sink."""
    return learn(UNSET, known, level, 1_000.0, saturated_s)


def test_one_sinks_share_is_seen() -> None:
    assert seen_per_s(replace(QUIET, accepted_per_s=2_000.0, ready_replicas=2)) == 1_000


@pytest.mark.parametrize("changed", [{"accepted_per_s": 0.0}, {"ready_replicas": 0}], ids=["stalled", "no sink"])
def test_zero_is_no_figure(changed: Any) -> None:
    assert seen_per_s(replace(QUIET, **changed)) is None
    known = (3_000.0, *NOTHING[1:])
    assert learn(UNSET, known, Level.NORMAL, None, 60) is known
    assert at_least_per_s(5.0, None, behind=True) == 5


def test_a_backlog_shows_it() -> None:
    assert learnt(NOTHING, 60)[0] == 1_000
    assert learnt(NOTHING, 60, level=Level.SOFT)[1] == 1_000


def test_otherwise_it_is_a_lower_bound_of_what_is_known() -> None:
    assert learnt(NOTHING, None) is NOTHING
    assert learnt((500.0, *NOTHING[1:]), None)[0] == 1_000
    known = (3_000.0, *NOTHING[1:])
    assert learnt(known, None) is known


def test_a_lower_figure_is_believed_slowly() -> None:
    known = (3_000.0, *NOTHING[1:])
    assert learnt(known, 60)[0] == pytest.approx(1_000 + 2_000 / 2.718281828)


def test_what_is_assumed_is_a_figure_of_level_0_that_looks_correct() -> None:
    assert learn(ScalingConfig(assumed_per_s=900), NOTHING, Level.NORMAL, 1_000.0, None)[0] == 1_000
    high = ScalingConfig(assumed_per_s=3_000)
    assert learn(high, NOTHING, Level.NORMAL, 1_000.0, None) is NOTHING
    assert learn(high, NOTHING, Level.NORMAL, 1_000.0, 60)[0] == pytest.approx(1_000 + 2_000 / 2.718281828)
    assert learn(high, NOTHING, Level.SOFT, 1_000.0, 60)[1] == 1_000


def test_a_lower_bound_begins_with_a_backlog_and_only_rises() -> None:
    assert at_least_per_s(None, 1_000.0, behind=False) is None
    assert at_least_per_s(None, 1_000.0, behind=True) == 1_000
    assert at_least_per_s(1_000.0, 1_500.0, behind=False) == 1_500
    assert at_least_per_s(1_000.0, 500.0, behind=True) == 1_000


def test_the_smaller_of_both_levels_counts() -> None:
    known = (2_000.0, 1_500.0, 2_600.0, None, None)
    config = ScalingConfig(assumed_per_s=7)
    assert throughput_per_s(config, known, Level.SOFT, 1.0, None) == 1_500
    assert throughput_per_s(config, known, Level.GRACEFUL, 1.0, None) == 2_000
    assert throughput_per_s(config, known, Level.AGGRESSIVE, 1.0, None) == 2_000


def test_what_a_sink_reads_while_it_sheds_bounds_it_from_above() -> None:
    known = (2_000.0, *NOTHING[1:])
    assert throughput_per_s(UNSET, known, Level.GRACEFUL, None, 1_200.0) == 1_200
    assert throughput_per_s(UNSET, known, Level.GRACEFUL, None, 9_000.0) == 2_000


def test_what_stands_in_for_level_0() -> None:
    """What is assumed, no more than the lowest level with a figure, before the lower bound."""
    known, assumed = (None, 1_500.0, 1_200.0, None, None), ScalingConfig(assumed_per_s=1_400)
    assert throughput_per_s(assumed, known, Level.NORMAL, 900.0, None) == 1_400
    assert throughput_per_s(ScalingConfig(assumed_per_s=50_000), known, Level.NORMAL, 900.0, None) == 1_500
    assert throughput_per_s(UNSET, known, Level.NORMAL, 900.0, None) == 1_500
    assert throughput_per_s(UNSET, known, Level.GRACEFUL, 900.0, None) == 1_200
    assert throughput_per_s(UNSET, known, Level.AGGRESSIVE, 900.0, None) == 1_500
    assert throughput_per_s(UNSET, NOTHING, Level.NORMAL, 900.0, None) == 900
    assert throughput_per_s(UNSET, NOTHING, Level.NORMAL, None, None) is None
