"""The level of degradation: entered by unread lag, age or memory, left slowly, tried out half open at the top.

One step of `k2_core.policy.decision`. The rules, from the table in docs/policy.md:

- The first crossing from level 0 acts at once and may jump; further levels wait for the dwell and for a scale-up
  under way.
- One level down after all signals stayed below their exits for the dwell; between exit and entry nothing moves.
- At level 4 the sink stands still, so its lag cannot fall: after the dwell it drains at level 3 on trial.
- While the pipeline stops nothing new comes in, so that what is put off would only be read twice: the level is at most
  the highest that defers nothing, and stays there.
- A recovery that has to be taken back doubles the dwell of the next, twice at most.

Pure; it never looks at replicas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from k2_core.policy.classes import OWES_NOTHING_NEW
from k2_core.policy.observation import Observation
from k2_core.policy.reasons import Reason
from k2_core.policy.signals import Signals
from k2_core.policy.thresholds import DegradationConfig, LevelThresholds
from k2_core.types import Level

MOST_RELAPSES: Final = 2
"""The dwell doubles so often: 3 minutes become 12."""
_DESCENDING: Final = (Level.CIRCUIT_BREAK, Level.AGGRESSIVE, Level.GRACEFUL, Level.SOFT)


@dataclass(frozen=True, slots=True)
class LevelState:
    """Where the level is. Times are the policy's own (`signals`).

    Args:
        level: The level that the rules have reached.
        since_s: When.
        calm_s: For how long all signals have been below the level's exits, as far as they were known.
        probing: Whether level 3 is on trial after level 4.
        relapses: Recoveries in a row that had to be taken back.
        recovered_at_s: When a level was last left downwards.
        rebalance_at_s: When the last rebalance began.
        rebalancing: Whether it is under way.
    """

    level: Level = Level.NORMAL
    since_s: float = 0.0
    calm_s: float = 0.0
    probing: bool = False
    relapses: int = 0
    recovered_at_s: float | None = None
    rebalance_at_s: float | None = None
    rebalancing: bool = False


@dataclass(frozen=True, slots=True)
class LevelStep:
    """What one step did to the level.

    Args:
        crossed: The level whose entry is crossed at this look.
        why: Why the level is what it is.
        held_by: What keeps it from changing, or None.
    """

    crossed: Level
    why: Reason
    held_by: Reason | None = None


def crossed_level(
    levels: Mapping[Level, LevelThresholds],
    unread_records: float,
    age_s: float,
    memory_ratio: float,
    emergency_records: float | None = None,
) -> Level:
    """Return the highest level whose entry is reached by any trigger; it never falls when one of them grows.

    Args:
        levels: Their entries.
        unread_records: Of all partitions.
        age_s: Of the oldest of them.
        memory_ratio: Of the fullest sink.
        emergency_records: Those of the unread records that may enter level 4; None: all.
    """
    for level in _DESCENDING:
        entry, records = levels[level], unread_records
        if level is Level.CIRCUIT_BREAK and emergency_records is not None:
            records = emergency_records
        by_records = records >= entry.enter_unread_records
        if by_records or age_s >= entry.enter_age_s or memory_ratio >= entry.enter_memory_ratio:
            return level
    return Level.NORMAL


def dwell_down_s(config: DegradationConfig, state: LevelState) -> float:
    """Return the seconds that a level below 4 must be calm before it is left downwards."""
    return config.dwell_down_s * 2.0 ** min(state.relapses, MOST_RELAPSES)


def step_level(
    config: DegradationConfig,
    state: LevelState,
    signals: Signals,
    observation: Observation,
    *,
    scale_up_settling: bool,
) -> tuple[LevelState, LevelStep]:
    """Return the level after this look.

    Args:
        config: Thresholds and dwells.
        state: Before.
        signals: Of this look.
        observation: The look itself.
        scale_up_settling: Whether replicas under way may yet make a further level needless.
    """
    if signals.gap:
        state = replace(state, calm_s=0.0)
    if observation.rebalancing is not None and observation.rebalancing is not state.rebalancing:
        began_s = signals.time_s if observation.rebalancing else state.rebalance_at_s
        state = replace(state, rebalancing=observation.rebalancing, rebalance_at_s=began_s)
    if observation.stopping:
        return _stopping(config, state, signals, observation)
    if signals.missing:
        return state, LevelStep(state.level, Reason.METRICS_MISSING, Reason.METRICS_MISSING)
    look = _Look(config, signals, observation)
    if state.level is Level.CIRCUIT_BREAK:
        return _broken(look, state)
    if state.probing:
        return _probe(look, state)
    if look.crossed > state.level:
        return _rise(look, state, scale_up_settling=scale_up_settling)
    return _recover(look, state)


class _Look:
    """One look with what all rules ask of it."""

    __slots__ = (
        "age_s",
        "config",
        "crossed",
        "crossed_at_once",
        "forecast",
        "memory_ratio",
        "pressing_records",
        "signals",
    )

    def __init__(self, config: DegradationConfig, signals: Signals, observation: Observation) -> None:
        self.config = config
        self.signals = signals
        self.age_s = observation.oldest_unread_age_s or 0.0
        self.memory_ratio = (observation.memory_ratio or 0.0) if config.watch_memory else 0.0
        # Replicas under way do nothing for these two.
        failing = Level.CIRCUIT_BREAK if observation.downstream_failing else Level.NORMAL
        self.crossed_at_once = max(failing, crossed_level(config.levels, 0, 0, self.memory_ratio))
        # What would only be put off if it were read is no reason to stop what is taken in.
        self.pressing_records = signals.unread_records - (observation.waiting_records or 0)
        emergency = 0.0 if signals.draining else self.pressing_records
        by_lag = crossed_level(config.levels, signals.unread_records, self.age_s, 0, emergency)
        self.crossed = max(by_lag, self.crossed_at_once)
        self.forecast = min(crossed_level(config.levels, signals.forecast_records, 0, 0), Level.AGGRESSIVE)

    def is_calm(self, level: Level) -> bool:
        leave = self.config.levels[level]
        return (
            self.signals.unread_records < leave.exit_unread_records
            and self.age_s < leave.exit_age_s
            and self.memory_ratio < leave.exit_memory_ratio
        )


def _entered(look: _Look, state: LevelState, level: Level) -> LevelState:
    return replace(state, level=level, since_s=look.signals.time_s, calm_s=0.0, probing=False)


def _stopping(
    config: DegradationConfig, state: LevelState, signals: Signals, observation: Observation
) -> tuple[LevelState, LevelStep]:
    """Let the sink take in all there is: at a level that stands still or defers, the stop would wait for ever."""
    crossed = state.level if signals.missing else _Look(config, signals, observation).crossed
    if state.level > OWES_NOTHING_NEW:
        state = replace(state, level=OWES_NOTHING_NEW, since_s=signals.time_s)
    # Calm before the stop says nothing of what comes after it.
    return replace(state, calm_s=0.0, probing=False), LevelStep(crossed, Reason.STOPPING)


def _rise(look: _Look, state: LevelState, *, scale_up_settling: bool) -> tuple[LevelState, LevelStep]:
    held_by = _held(look, state, scale_up_settling=scale_up_settling)
    if held_by is not None:
        return replace(state, calm_s=0.0), LevelStep(look.crossed, Reason.STEADY, held_by)
    target = max(look.crossed, look.forecast)
    if target > look.crossed:
        why = Reason.FORECAST
    else:
        why = Reason.FIRST_CROSSING if state.level is Level.NORMAL else Reason.FURTHER_CROSSING
    after = replace(_entered(look, state, target), relapses=state.relapses + _is_relapse(look, state))
    return after, LevelStep(look.crossed, why)


def _held(look: _Look, state: LevelState, *, scale_up_settling: bool) -> Reason | None:
    """Return what keeps a crossed level from being entered."""
    time_s, by_lag_only = look.signals.time_s, look.crossed_at_once <= state.level
    if state.level is not Level.NORMAL and time_s - state.since_s < look.config.dwell_up_s:
        return Reason.DWELL_UP
    rebalance_at_s = -math.inf if state.rebalance_at_s is None else state.rebalance_at_s
    if by_lag_only and time_s - rebalance_at_s < look.config.rebalance_grace_s:
        return Reason.REBALANCING
    if by_lag_only and state.level is not Level.NORMAL and scale_up_settling:
        return Reason.SCALE_UP_SETTLING
    return None


def _is_relapse(look: _Look, state: LevelState) -> bool:
    if state.recovered_at_s is None or state.relapses >= MOST_RELAPSES:
        return False
    return look.signals.time_s - state.recovered_at_s < 2 * dwell_down_s(look.config, state)


def _recover(look: _Look, state: LevelState) -> tuple[LevelState, LevelStep]:
    if state.level is Level.NORMAL:
        return _normal(look, state), LevelStep(look.crossed, Reason.STEADY)
    if not look.is_calm(state.level):
        return replace(state, calm_s=0.0), LevelStep(look.crossed, Reason.STEADY, Reason.INSIDE_BAND)
    calm_s = state.calm_s + look.signals.calm_s
    if calm_s < dwell_down_s(look.config, state):
        return replace(state, calm_s=calm_s), LevelStep(look.crossed, Reason.STEADY, Reason.DWELL_DOWN)
    lower = replace(_entered(look, state, Level(state.level - 1)), recovered_at_s=look.signals.time_s)
    return lower, LevelStep(look.crossed, Reason.RECOVERED)


def _normal(look: _Look, state: LevelState) -> LevelState:
    """Forget relapses once level 0 has lasted twice the dwell."""
    recovered_at_s = -math.inf if state.recovered_at_s is None else state.recovered_at_s
    if state.relapses and look.signals.time_s - recovered_at_s >= 2 * dwell_down_s(look.config, state):
        return replace(state, relapses=0)
    return state


def _broken(look: _Look, state: LevelState) -> tuple[LevelState, LevelStep]:
    # Not even a failing downstream keeps the trial from being made: it may be known from the last trial only.
    # Nor does a trial that failed make the next one wait longer: while the sink stands still the log only grows.
    if look.signals.time_s - state.since_s < look.config.dwell_down_s:
        return state, LevelStep(look.crossed, Reason.STEADY, Reason.DWELL_DOWN)
    trial = replace(_entered(look, state, Level.AGGRESSIVE), probing=True)
    return trial, LevelStep(look.crossed, Reason.CIRCUIT_HALF_OPEN)


def _probe(look: _Look, state: LevelState) -> tuple[LevelState, LevelStep]:
    top = look.config.levels[Level.CIRCUIT_BREAK]
    full = look.memory_ratio >= top.enter_memory_ratio
    if not full and look.signals.time_s - state.since_s < look.config.probe_s:
        return state, LevelStep(look.crossed, Reason.CIRCUIT_HALF_OPEN, Reason.PROBING)
    drains = look.signals.draining or look.pressing_records < top.exit_unread_records
    if drains and look.memory_ratio < top.exit_memory_ratio and look.crossed < Level.CIRCUIT_BREAK:
        passed = replace(state, probing=False, recovered_at_s=look.signals.time_s)
        return passed, LevelStep(look.crossed, Reason.PROBE_PASSED)
    failed = _entered(look, state, Level.CIRCUIT_BREAK)
    return failed, LevelStep(look.crossed, Reason.PROBE_FAILED)
