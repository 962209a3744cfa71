"""What a decision says, and the modes of the level."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from k2_core.policy.decision import PolicyState, step
from k2_core.policy.degradation import LevelState
from k2_core.policy.observation import Observation
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.types import Level
from support.policy import QUIET, START_S, Driver


def config(mode: Mode) -> PolicyConfig:
    return PolicyConfig(DegradationConfig(mode), ScalingConfig(Mode.AUTO, assumed_per_s=100))


@pytest.mark.parametrize(
    ("mode", "applied", "recommended", "held_by"),
    [
        (Mode.AUTO, 2, 2, ()),
        (Mode.RECOMMEND, 0, 2, (Reason.MODE_RECOMMEND,)),
        (Mode.OFF, 0, 0, ()),
    ],
    ids=str,
)
def test_modes(mode: Mode, applied: int, recommended: int, held_by: tuple[Reason, ...]) -> None:
    driver = Driver(config(mode))
    level = driver.look(oldest_unread_age_s=40).level
    assert (level.applied, level.recommended, level.held_by) == (applied, recommended, held_by)
    assert level.crossed is Level.GRACEFUL


def test_off_forgets_the_level_and_scaling_still_sees_the_threshold() -> None:
    driver = Driver(config(Mode.AUTO))
    driver.look(oldest_unread_age_s=130)
    driver.config = config(Mode.OFF)
    decision = driver.look(oldest_unread_age_s=130, offered_per_s=400.0)
    assert (decision.level.applied, decision.level.why) == (Level.NORMAL, Reason.MODE_OFF)
    assert driver.state.level == LevelState()
    assert decision.replicas.applied == 6


def test_it_carries_what_it_was_made_from() -> None:
    seen = replace(QUIET, retention_s=100.0, oldest_deferred_age_s=85.0)
    _, decision = step(config(Mode.AUTO), PolicyState(), seen, START_S)
    assert decision.observation is seen
    assert (decision.now_s, decision.outage_budget_s, decision.retention_at_risk) == (START_S, 15.0, True)
    assert asdict(decision)["replicas"]["step"]["terms"]["throughput_per_s"] == 100


def test_an_unknown_retention_is_not_said_to_be_safe() -> None:
    _, decision = step(config(Mode.AUTO), PolicyState(), replace(QUIET, retention_s=None), START_S)
    assert (decision.outage_budget_s, decision.retention_at_risk) == (None, None)


def test_nothing_known_holds_everything_and_names_it_once() -> None:
    state, decision = step(config(Mode.AUTO), PolicyState(), Observation(), START_S)
    assert decision.level.held_by == decision.replicas.step.held_by == (Reason.METRICS_MISSING,)
    assert len(decision.missing) == len(set(decision.missing)) >= 12
    assert state.level == LevelState()


def test_a_threshold_that_was_crossed_presses_no_longer_when_that_cannot_be_seen() -> None:
    """2 sinks at 75 %: inside the band, and only a threshold crossed now would ask for a third."""
    driver = Driver(config(Mode.AUTO))
    load = {"offered_per_s": 150.0, "accepted_per_s": 150.0}
    driver.look(oldest_unread_age_s=8.0, service_level=Level.SOFT, **load)
    driver.state = replace(driver.state, level=LevelState(Level.SOFT))
    assert driver.looks(300, memory_ratio=None, **load).replicas.applied == 2
