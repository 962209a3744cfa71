"""What one sink can do, learnt from what it did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from k2_core.policy.signals import Signals
from k2_core.policy.thresholds import ScalingConfig
from k2_core.policy.throughput import learn, throughput_per_s
from k2_core.types import Level
from support.policy import QUIET

NOTHING = (None,) * len(Level)
SEEN = replace(QUIET, accepted_per_s=2_000.0, ready_replicas=2)


@dataclass(frozen=True)
class Pressed:
    """A situation with a backlog or without, 60 s after the last look."""

    pressed: bool = True
    signals: Signals = field(default_factory=lambda: Signals(60.0, 60.0, False, (), 0, 0, 0, False, None, None))


def test_a_backlog_shows_it() -> None:
    assert learn(NOTHING, Level.NORMAL, SEEN, Pressed())[0] == 1_000


def test_without_a_backlog_it_is_a_lower_bound_of_what_is_known() -> None:
    assert learn(NOTHING, Level.NORMAL, SEEN, Pressed(False)) == NOTHING
    known = (500.0, *NOTHING[1:])
    assert learn(known, Level.NORMAL, SEEN, Pressed(False))[0] == 1_000
    known = (3_000.0, *NOTHING[1:])
    assert learn(known, Level.NORMAL, SEEN, Pressed(False)) is known


def test_a_lower_figure_is_believed_slowly() -> None:
    known = (3_000.0, *NOTHING[1:])
    assert learn(known, Level.NORMAL, SEEN, Pressed())[0] == pytest.approx(1_000 + 2_000 / 2.718281828)


def test_while_it_sheds_it_is_a_lower_bound() -> None:
    shedding = replace(SEEN, shed_per_s=10.0)
    assert learn(NOTHING, Level.GRACEFUL, shedding, Pressed()) == NOTHING
    assert learn((None, None, 10.0, None, None), Level.GRACEFUL, shedding, Pressed())[2] == 1_000


@pytest.mark.parametrize("changed", [{"accepted_per_s": 0.0}, {"ready_replicas": 0}], ids=["stalled", "no sink"])
def test_zero_is_no_figure(changed: Any) -> None:
    known = (3_000.0, *NOTHING[1:])
    assert learn(known, Level.NORMAL, replace(SEEN, **changed), Pressed()) is known


def test_the_smaller_of_both_levels_counts() -> None:
    known = (2_000.0, 1_500.0, 2_600.0, None, None)
    config = ScalingConfig(assumed_per_s=7)
    assert throughput_per_s(config, known, Level.SOFT) == 1_500
    assert throughput_per_s(config, known, Level.GRACEFUL) == 2_000
    assert throughput_per_s(config, known, Level.AGGRESSIVE) == 2_000
    assert throughput_per_s(config, NOTHING, Level.NORMAL) == 7
    assert throughput_per_s(ScalingConfig(), NOTHING, Level.NORMAL) is None
