"""The one decision: the level and the number of sinks, from one look at the pipeline. The package's entry.

Called by the controller (operator or `k2 up`) at each tick with what it remembered, what it sees and its clock. Pure:
the same arguments give the same answer, so that a controller that stores the state may restart at any time. It acts on
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from k2_core.policy.degradation import LevelState, LevelStep, crossed_level, step_level
from k2_core.policy.observation import Observation, outage_budget
from k2_core.policy.reasons import Reason
from k2_core.policy.scaling import ScalingStep, Situation, scale_up_settling, step_scaling
from k2_core.policy.scaling_state import ScalingState
from k2_core.policy.signals import Signals, SignalState, read_signals
from k2_core.policy.thresholds import Mode, PolicyConfig
from k2_core.types import Level

BUDGET_AT_RISK: Final = 0.2
"""Share of the retention below which the remaining outage budget is to be alerted on."""


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All that a controller must keep between two steps; see `k2_core.policy.memory` for its stored form."""

    signals: SignalState = field(default_factory=SignalState)
    level: LevelState = field(default_factory=LevelState)
    scaling: ScalingState = field(default_factory=ScalingState)


@dataclass(frozen=True, slots=True)
class LevelDecision:
    """The level, and why.

    Args:
        applied: What services are to do.
        recommended: What the rules say; differs from `applied` in the mode Recommend.
        crossed: The level whose entry is crossed at this look.
        probing: Whether level 3 is on trial after level 4.
        why: Why it is what it is.
        held_by: What keeps it from changing.
    """

    applied: Level
    recommended: Level
    crossed: Level
    probing: bool
    why: Reason
    held_by: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ReplicaDecision:
    """The number of sinks, and why.

    Args:
        applied: What is to be asked for; None while nothing is known.
        commit_interval_s: With which they are to commit.
        step: What the formula recommends, with its terms, why, and everything that holds it back.
    """

    applied: int | None
    commit_interval_s: float
    step: ScalingStep


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, from which figures, and what held it back: enough for status, Events and metrics.

    Args:
        now_s: The controller's clock, UTC seconds.
        observation: What was seen.
        signals: What was made of it; the lag in it stems from the last look where `missing` is not empty.
        level: The level.
        replicas: The sinks.
        missing: Figures that are missing, of both halves.
        outage_budget_s: For how long sinks may stand still before the log removes what it owes; None: not known.
        retention_at_risk: Whether little of it is left; None: not known.
        retention_s: What the budget is left of: how long the log keeps a record, by time or by bytes; None: not known.
    """

    now_s: float
    observation: Observation
    signals: Signals
    level: LevelDecision
    replicas: ReplicaDecision
    missing: tuple[str, ...]
    outage_budget_s: float | None
    retention_at_risk: bool | None
    retention_s: float | None = None


def step(
    config: PolicyConfig, state: PolicyState, observation: Observation, now_s: float
) -> tuple[PolicyState, Decision]:
    """Take one look in and decide.

    Args:
        config: Settings; they may change between steps.
        state: What the last step returned, `PolicyState()` before the first.
        observation: The look.
        now_s: UTC seconds. A clock that was set back counts as if no time had passed.

    Returns:
        The state to keep, and the decision.
    """
    degradation, scaling = config.degradation, config.scaling
    signal_state, signals = read_signals(degradation, state.signals, observation, now_s)
    settling = scale_up_settling(scaling, state.scaling, signals.time_s, degradation.settle_at_most_s)
    level_state, level_step = step_level(degradation, state.level, signals, observation, scale_up_settling=settling)
    if degradation.mode is Mode.OFF:
        # Nothing is remembered, but scaling still asks whether a threshold is crossed.
        level_state, level_step = LevelState(), LevelStep(level_step.crossed, Reason.MODE_OFF)
    level = _level_decision(degradation.mode, level_state, level_step)
    own = observation.service_level or Level.NORMAL
    by_lag = crossed_level(degradation.levels, signals.unread_records, observation.oldest_unread_age_s or 0.0, 0.0)
    situation = Situation(
        signals=signals,
        pressed=not signals.missing and level_step.crossed > Level.NORMAL,
        behind=not signals.missing and by_lag > Level.NORMAL,
        level=max(level.applied, own),
        level_before=max(_applied(degradation.mode, state.level), own),
    )
    scaling_state, scaling_step = step_scaling(scaling, state.scaling, situation, observation)
    after = PolicyState(signal_state, level_state, scaling_state)
    interval_s = scaling_state.commit_interval_s or scaling.commit_interval_s
    replicas = ReplicaDecision(scaling_state.target, interval_s, scaling_step)
    return after, _decision(now_s, observation, signals, level, replicas)


def _applied(mode: Mode, state: LevelState) -> Level:
    return state.level if mode is Mode.AUTO else Level.NORMAL


def _level_decision(mode: Mode, state: LevelState, taken: LevelStep) -> LevelDecision:
    held = () if taken.held_by is None else (taken.held_by,)
    if mode is Mode.RECOMMEND and state.level is not Level.NORMAL:
        held = (*held, Reason.MODE_RECOMMEND)
    return LevelDecision(
        applied=_applied(mode, state),
        recommended=state.level,
        crossed=taken.crossed,
        probing=state.probing,
        why=taken.why,
        held_by=held,
    )


def _decision(
    now_s: float, observation: Observation, signals: Signals, level: LevelDecision, replicas: ReplicaDecision
) -> Decision:
    budget = outage_budget(observation)
    return Decision(
        now_s=now_s,
        observation=observation,
        signals=signals,
        level=level,
        replicas=replicas,
        missing=tuple(dict.fromkeys((*signals.missing, *replicas.step.missing))),
        outage_budget_s=None if budget is None else budget.left_s,
        retention_at_risk=None if budget is None else budget.left_s < BUDGET_AT_RISK * budget.retention_s,
        retention_s=observation.retention_s if budget is None else budget.retention_s,
    )
