"""Any sequence of looks, 100,000 of them and more: dwell, hysteresis, bounds, monotone levels, restarts, recovery.

Hypothesis draws the looks in stretches (so many looks at such figures), which is also what it shrinks to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_core.policy.classes import Priority, is_deferred
from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.degradation import crossed_level
from k2_core.policy.memory import from_dict, to_dict
from k2_core.policy.observation import Observation
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import DEFAULT_LEVELS, DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.types import Level
from support.policy import QUIET, START_S

CONFIG: Final = PolicyConfig(
    DegradationConfig(Mode.AUTO, position_interval_s=0, in_hand_s=0),
    ScalingConfig(Mode.AUTO, assumed_per_s=1_000, down_window_s=300),
)
EVERY_S: Final = 5.0
LOOKS: Final = 480
"""In each example of the walk."""
WALKS: Final = 230
"""Examples: 230 walks of 480 looks are 110,400 steps."""

UNREAD = st.sampled_from([0, 0, 500, 699, 701, 1_000, 8_000, 50_000, 99_000, 120_000, 650_000, 2_000_000])
AGES = st.sampled_from([0.0, 0.0, 3.0, 6.9, 8.0, 10.0, 29.0, 31.0, 119.0, 500.0])
MEMORY = st.sampled_from([0.3] * 8 + [0.5, 0.72, 0.85, 0.93, 0.96])
RATES = st.sampled_from([0.0, 10.0, 700.0, 3_000.0, 20_000.0])


@dataclass(frozen=True)
class Stretch:
    """So many looks at figures like these; `grows` is added to the lag at each."""

    looks: int
    seen: Observation
    grows: int
    follows: bool
    """Whether the sinks are at once as many as asked for."""


@st.composite
def wild(draw: st.DrawFn) -> Stretch:
    missing = draw(st.sampled_from([None] * 7 + ["unread_records", "replicas", "memory_ratio", "accepted_per_s"]))
    seen = replace(
        QUIET,
        offered_per_s=draw(RATES),
        accepted_per_s=draw(RATES),
        shed_per_s=draw(st.sampled_from([0.0, 0.0, 500.0])),
        unread_records=draw(UNREAD),
        oldest_unread_age_s=draw(AGES),
        memory_ratio=draw(MEMORY),
        downstream_failing=draw(st.sampled_from([False] * 9 + [True])),
        active_partitions=draw(st.sampled_from([1, 3, 16])),
        rebalancing=draw(st.sampled_from([False, False, False, True])),
        commit_duration_s=draw(st.sampled_from([0.1, 2.0, 30.0])),
    )
    if missing is not None:
        absent: dict[str, Any] = {missing: None}
        seen = replace(seen, **absent)
    return Stretch(draw(st.integers(1, 80)), seen, draw(st.sampled_from([0, 0, -300, 300])), draw(st.booleans()))


@st.composite
def calm(draw: st.DrawFn) -> Stretch:
    """Low lag, for about as long as a recovery or a step down takes."""
    rate = draw(RATES)
    age_s = draw(st.sampled_from([0.0, 6.9, 8.0]))
    seen = replace(QUIET, offered_per_s=rate, accepted_per_s=rate, unread_records=500, oldest_unread_age_s=age_s)
    return Stretch(draw(st.integers(20, 100)), seen, 0, True)


WALK = st.lists(wild() | calm(), min_size=1, max_size=12)


def looks_of(walk: list[Stretch]) -> Iterator[tuple[Stretch, Observation]]:
    """Yield LOOKS looks, the walk over and over."""
    given_out = 0
    while True:
        for stretch in walk:
            for number in range(stretch.looks):
                if given_out == LOOKS:
                    return
                given_out += 1
                unread = stretch.seen.unread_records
                grown = None if unread is None else max(0, unread + stretch.grows * number)
                yield stretch, stretch.seen if grown == unread else replace(stretch.seen, unread_records=grown)


class Walker:
    """Steps through a walk and hands out what was before and after each step."""

    def __init__(self) -> None:
        self.state = PolicyState()
        self.now_s = START_S
        self.replicas = 1

    def take(self, stretch: Stretch, seen: Observation) -> tuple[PolicyState, Decision]:
        ready = self.replicas if stretch.follows else 1
        if seen.replicas is not None:
            seen = replace(seen, replicas=self.replicas, ready_replicas=ready)
        before = self.state
        self.state, decision = step(CONFIG, before, seen, self.now_s)
        self.now_s += EVERY_S
        self.replicas = decision.replicas.applied or self.replicas
        return before, decision


def check_level(before: PolicyState, after: PolicyState, decision: Decision) -> None:
    """No dwell is violated, nothing flaps inside the band, recovery goes step by step, missing figures hold."""
    old, new = before.level.level, after.level.level
    if old is new:
        return
    degradation = CONFIG.degradation
    in_level_s = after.signals.time_s - before.level.since_s
    assert decision.signals.missing == ()
    assert decision.level.held_by == ()
    if new > old:
        assert old is Level.NORMAL or in_level_s >= degradation.dwell_up_s or decision.level.why is Reason.PROBE_FAILED
        assert decision.level.crossed > old or decision.level.why is Reason.PROBE_FAILED
    else:
        assert new == old - 1
        assert in_level_s >= degradation.dwell_down_s
        if old is not Level.CIRCUIT_BREAK:
            leave = DEFAULT_LEVELS[old]
            seen = decision.observation
            assert decision.signals.unread_records < leave.exit_unread_records
            assert (seen.oldest_unread_age_s or 0) < leave.exit_age_s
            assert (seen.memory_ratio or 0) < leave.exit_memory_ratio


def check_replicas(before: PolicyState, decision: Decision) -> None:
    """Never beyond the partitions, never without throughput, never while its effect is open, down at level 0 only."""
    old, new = before.scaling.target, decision.replicas.applied
    if old is None or new is None or old == new:
        return
    seen, step_taken = decision.observation, decision.replicas.step
    assert step_taken.held_by == () == step_taken.missing
    assert (seen.accepted_per_s or 0) + (seen.shed_per_s or 0) > 0
    assert not seen.rebalancing
    assert seen.ready_replicas == seen.replicas == old
    if new > old:
        assert step_taken.terms is not None
        assert new <= step_taken.terms.cap
        assert new <= (seen.active_partitions or 0)
    elif step_taken.why is not Reason.STEP_TAKEN_BACK:
        assert decision.level.applied is Level.NORMAL
    changed_at_s = before.scaling.change.at_s if before.scaling.change else 0.0
    assert decision.signals.time_s - changed_at_s >= CONFIG.scaling.commit_interval_s or not changed_at_s


@given(WALK)
@settings(max_examples=WALKS, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_step_keeps_the_rules(walk: list[Stretch]) -> None:
    walker = Walker()
    for number, (stretch, seen) in enumerate(looks_of(walk)):
        before, decision = walker.take(stretch, seen)
        check_level(before, walker.state, decision)
        check_replicas(before, decision)
        if number % 40 == 0:
            # A controller that restarts here goes on as if it had not.
            walker.state = from_dict(json.loads(json.dumps(to_dict(walker.state), allow_nan=False)))
            assert to_dict(walker.state) == to_dict(from_dict(to_dict(walker.state)))


@given(WALK, st.integers(1, LOOKS - 1))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_restart_anywhere_changes_no_decision(walk: list[Stretch], restart_at: int) -> None:
    steady, restarted = Walker(), Walker()
    for number, (stretch, seen) in enumerate(looks_of(walk)):
        if number == restart_at:
            restarted.state = from_dict(json.loads(json.dumps(to_dict(restarted.state), allow_nan=False)))
        assert steady.take(stretch, seen)[1] == restarted.take(stretch, seen)[1]


@given(WALK, st.lists(UNREAD, min_size=2, max_size=2), st.lists(AGES, min_size=2, max_size=2))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_levels_are_monotone_in_lag(walk: list[Stretch], unread: list[int], ages: list[float]) -> None:
    """From wherever a walk has led: more lag, or older, never gives a lower level."""
    walker = Walker()
    for number, (stretch, seen) in enumerate(looks_of(walk)):
        walker.take(stretch, seen)
        if number % 20 == 19:
            levels = [
                step(CONFIG, walker.state, replace(seen, unread_records=lag, oldest_unread_age_s=age_s), walker.now_s)[
                    0
                ].level.level
                for lag, age_s in zip(sorted(unread), sorted(ages), strict=True)
            ]
            assert levels[0] <= levels[1]


@given(WALK)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_low_lag_leads_to_level_0_from_anywhere(walk: list[Stretch]) -> None:
    walker = Walker()
    for stretch, seen in looks_of(walk):
        walker.take(stretch, seen)
    calm = Stretch(1, replace(QUIET, unread_records=100, oldest_unread_age_s=1.0), 0, True)
    # Four levels of at most four dwells each, and a trial.
    for _ in range(int((4 * 4 * 180 + 60 + 60) / EVERY_S)):
        walker.take(calm, calm.seen)
    assert walker.state.level.level is Level.NORMAL


@given(UNREAD, UNREAD, AGES, AGES, MEMORY, MEMORY)
def test_what_is_crossed_never_falls_as_a_figure_grows(
    unread: int, more: int, age_s: float, older_s: float, memory: float, fuller: float
) -> None:
    low = crossed_level(DEFAULT_LEVELS, min(unread, more), min(age_s, older_s), min(memory, fuller))
    high = crossed_level(DEFAULT_LEVELS, max(unread, more), max(age_s, older_s), max(memory, fuller))
    assert low <= high
    for priority in Priority:
        assert is_deferred(high, priority) or not is_deferred(low, priority)
