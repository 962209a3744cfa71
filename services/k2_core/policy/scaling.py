"""How many sinks there are: up at once when needed, down slowly, never while the effect of a change cannot be told.

One step of `k2_core.policy.decision`, after the level's. The formula is in `k2_core.policy.demand`; here is when it is
acted on:

- Not during a rebalance or roll-out, nor until a change has had its commit intervals, nor at zero throughput.
- Up if a threshold is crossed, the utilisation is above its maximum, or what is owed is brought in, to what the formula
  wants, within the cap.
- Down to the largest recommendation of the window, and only at level 0.
- A step up that brought nothing while a backlog stood is taken back, and not tried again for a while.

Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from k2_core.policy.classes import OWES_NOTHING_NEW
from k2_core.policy.demand import Load, ScalingTerms, commit_interval_s, reckon, replica_cap
from k2_core.policy.observation import Observation, missing, outage_budget_s
from k2_core.policy.reasons import Reason
from k2_core.policy.scaling_state import Change, ScalingState
from k2_core.policy.signals import Signals
from k2_core.policy.thresholds import Mode, ScalingConfig
from k2_core.policy.throughput import at_least_per_s, learn, seen_per_s, throughput_per_s
from k2_core.policy.window import maximum, noted, width_s
from k2_core.types import Level

NEEDS: Final = (
    "offered_per_s",
    "accepted_per_s",
    "shed_per_s",
    "unread_records",
    "deferred_records",
    "replicas",
    "ready_replicas",
    "active_partitions",
    "rebalancing",
    "rolling_out",
    "commit_duration_s",
    "service_level",
)
GAIN_AT_LEAST: Final = 0.1
"""Of the throughput that the added sinks should bring: less, and they did not help."""
BROUGHT_IN: Final = 0.95
"""What is left of what was owed when sinks may come for it: so much less, and it is known to be brought in."""
MOST_BLOCKS: Final = 3
"""The block of a step that did not help doubles so often: half an hour becomes four."""


@dataclass(frozen=True, slots=True)
class ScalingStep:
    """What one step did to the replicas.

    Args:
        recommended: What the formula recommends, bounds and window included; None if nothing is known.
        why: Why.
        held_by: What keeps it from being done, everything that does.
        terms: The formula's figures, None where they are missing.
        missing: The figures that are missing.
    """

    recommended: int | None
    why: Reason
    held_by: tuple[Reason, ...] = ()
    terms: ScalingTerms | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What the level's step found, as far as scaling goes by it.

    Args:
        signals: Of this look.
        pressed: Whether the entry of any level is crossed.
        behind: Whether one is by lag, so that sinks have enough to do: memory alone says nothing of that.
        level: What is in force from now on, a service's own level included.
        level_before: What was in force until now, to which the rates of this look belong.
    """

    signals: Signals
    pressed: bool
    behind: bool
    level: Level
    level_before: Level


def scale_up_settling(config: ScalingConfig, state: ScalingState, time_s: float, at_most_s: float) -> bool:
    """Return whether a further level is to wait for sinks under way."""
    change = state.change
    if config.mode is not Mode.AUTO or change is None or change.after <= change.before:
        return False
    return time_s - change.at_s < at_most_s


def step_scaling(
    config: ScalingConfig, state: ScalingState, situation: Situation, observation: Observation
) -> tuple[ScalingState, ScalingStep]:
    """Return what is asked for after this look; `ScalingState.target` is it."""
    if config.mode is Mode.OFF:
        return ScalingState(target=observation.replicas), ScalingStep(observation.replicas, Reason.MODE_OFF)
    state = _adopted(config, state, observation)
    absent, target = missing(observation, NEEDS), state.target
    if absent or target is None:
        stalled = () if observation.stalled_s is None else (Reason.SINKS_STALLED,)
        return state, ScalingStep(target, Reason.METRICS_MISSING, (Reason.METRICS_MISSING, *stalled), missing=absent)
    look = _Look(config, situation, observation, was_behind=state.onset_per_s is not None)
    state = _noticed(look, state)
    bounded = min(max(target, config.min_replicas), config.max_replicas)
    if bounded != target:
        return _concluded(look, state, ScalingStep(bounded, Reason.BOUNDS), None)
    terms = look.terms(state)
    if terms is None:
        held = (*look.held(state), Reason.THROUGHPUT_UNKNOWN)
        return state, ScalingStep(target, Reason.STEADY, held)
    state = _windowed(look, state, terms)
    held = look.held(state)
    if not held:
        state, taken_back = _judged(look, state)
        if taken_back is not None:
            return _concluded(look, state, ScalingStep(taken_back, Reason.STEP_TAKEN_BACK), terms)
    step = _recommended(look, state, terms)
    return _concluded(look, state, step, terms, held)


class _Look:
    """One look with what all rules ask of it; every figure of NEEDS is known."""

    __slots__ = ("config", "observation", "read_per_s", "ready", "signals", "situation", "time_s", "was_behind")

    def __init__(
        self, config: ScalingConfig, situation: Situation, observation: Observation, *, was_behind: bool
    ) -> None:
        self.config = config
        self.situation = situation
        self.signals = situation.signals
        self.time_s = situation.signals.time_s
        self.observation = observation
        self.ready = observation.ready_replicas or 0
        self.was_behind = was_behind
        self.read_per_s = (observation.accepted_per_s or 0.0) + (observation.shed_per_s or 0.0)

    def steady(self, target: int | None) -> bool:
        unsteady = self.observation.rebalancing or self.observation.rolling_out
        return not unsteady and self.ready == target == self.observation.replicas

    def terms(self, state: ScalingState) -> ScalingTerms | None:
        # Sinks that shed may do less of all of the work than they do now: while they are behind, rather too many come.
        at_least = state.onset_per_s or state.at_least_per_s
        level, at_most = self.situation.level_before, self.at_most_per_s()
        per_s = throughput_per_s(self.config, state.throughputs, level, at_least, at_most)
        if per_s is None:
            return None
        offered = self.observation.offered_per_s or 0.0
        smoothed = self.signals.offered_per_s or 0.0
        load = Load(
            # In a burst the smoothed rate is still that of before.
            offered_per_s=max(offered, smoothed) if self.situation.pressed else smoothed,
            backlog_records=self.signals.unread_records + (self.observation.deferred_records or 0),
            throughput_per_s=per_s,
            ready_replicas=self.ready,
            outage_budget_s=outage_budget_s(self.observation),
            active_partitions=self.observation.active_partitions or 0,
        )
        commit_s = self.observation.commit_duration_s or 0.0
        return reckon(self.config, load, replica_cap(self.config, self.observation.active_partitions or 0, commit_s))

    @property
    def busy(self) -> bool:
        """Whether the sinks had enough to do since the look before, to which the rates of this one belong."""
        return self.situation.behind and self.was_behind

    @property
    def owed(self) -> int:
        return self.observation.deferred_records or 0

    def catching_up(self, state: ScalingState) -> bool:
        """Whether what is owed is brought in, so that sinks help: they do not with what cannot be read any more."""
        return self.situation.level <= OWES_NOTHING_NEW and 0 < self.owed <= BROUGHT_IN * state.owed_records

    def at_most_per_s(self) -> float | None:
        """Return what a busy sink reads while it sheds; see `throughput`."""
        if not (self.busy and self.observation.shed_per_s and self.ready):
            return None
        # A look in which it wrote and read nothing says nothing of what it can do.
        return max(self.read_per_s, self.signals.read_per_s or 0.0) / self.ready

    def held(self, state: ScalingState) -> tuple[Reason, ...]:
        """Return what forbids any change now."""
        found = []
        if self.observation.rebalancing:
            found.append(Reason.REBALANCING)
        if self.observation.rolling_out or not self.ready == state.target == self.observation.replicas:
            found.append(Reason.ROLLING_OUT)
        if not found and self.time_s - state.unsteady_at_s < self.settle_s(state):
            found.append(Reason.SETTLING)
        if self.read_per_s <= 0:
            found.append(Reason.ZERO_THROUGHPUT)
        if self.observation.stopping:
            found.append(Reason.STOPPING)
        return tuple(found)

    def settle_s(self, state: ScalingState) -> float:
        interval_s = state.commit_interval_s or self.config.commit_interval_s
        return interval_s if state.change is None else max(self.config.settle_s, 2 * interval_s)


def _adopted(config: ScalingConfig, state: ScalingState, observation: Observation) -> ScalingState:
    """Take over the number that there is: at the first look, and at each where the policy does not set it."""
    if config.mode is Mode.AUTO and state.target is not None:
        return state
    return state if observation.replicas is None else replace(state, target=observation.replicas)


def _noticed(look: _Look, state: ScalingState) -> ScalingState:
    """Learn from a steady look; remember when it was not, and what was read before new sinks began."""
    per_s, behind = seen_per_s(look.observation), look.situation.behind
    onset = None if not behind else state.onset_per_s if look.was_behind else per_s or 0.0
    owed = max(state.owed_records, look.owed) if look.owed else 0
    if (onset, owed) != (state.onset_per_s, state.owed_records):
        state = replace(state, onset_per_s=onset, owed_records=owed)
    if look.steady(state.target):
        # Sinks that shed could take in more.
        saturated_s = look.signals.calm_s if look.busy and not look.observation.shed_per_s else None
        throughputs = learn(look.config, state.throughputs, look.situation.level_before, per_s, saturated_s)
        at_least = at_least_per_s(state.at_least_per_s, per_s, behind=behind)
        if throughputs is state.throughputs and at_least == state.at_least_per_s:
            return state
        return replace(state, throughputs=throughputs, at_least_per_s=at_least)
    change = state.change
    if change is not None and look.ready <= change.before and not look.observation.rebalancing:
        change = replace(change, read_per_s=look.signals.read_per_s, level=look.situation.level)
    return replace(state, unsteady_at_s=look.time_s, change=change)


def _windowed(look: _Look, state: ScalingState, terms: ScalingTerms) -> ScalingState:
    window_from_s = look.time_s if state.window_from_s is None or look.signals.gap else state.window_from_s
    wanted = min(terms.wanted_down, terms.cap)
    window = noted(state.window, look.time_s, width_s(look.config.down_window_s), wanted)
    if window is state.window and window_from_s == state.window_from_s:
        return state
    return replace(state, window=window, window_from_s=window_from_s)


def _judged(look: _Look, state: ScalingState) -> tuple[ScalingState, int | None]:
    """Judge the last change once it has settled; return to how many sinks to go back, or None."""
    change = state.change
    if change is None:
        return state, None
    state = replace(state, change=None)
    if change.after <= change.before:
        return state, None
    gain = _gain(look, change)
    if gain is None:
        return state, None
    if gain >= GAIN_AT_LEAST:
        return replace(state, blocks=0, blocked_above=None), None
    block_s = look.config.block_s * 2.0 ** min(state.blocks, MOST_BLOCKS)
    blocked = replace(
        state,
        blocked_above=change.before,
        blocked_until_s=look.time_s + block_s,
        blocks=min(state.blocks + 1, MOST_BLOCKS),
    )
    return blocked, change.before


def _gain(look: _Look, change: Change) -> float | None:
    """Return what share of the throughput hoped for the added sinks brought, or None if that cannot be told.

    Only sinks that have a backlog show what they can do, and only at one level are two rates alike.
    """
    read_per_s = look.signals.read_per_s
    if not look.situation.pressed or change.level is not look.situation.level_before:
        return None
    if not change.read_per_s or read_per_s is None:
        return None
    if look.signals.draining:
        return 1.0
    return (read_per_s / change.read_per_s - 1) / (change.after / change.before - 1)


def _recommended(look: _Look, state: ScalingState, terms: ScalingTerms) -> ScalingStep:
    target = state.target or 1
    cap = max(terms.cap, look.config.min_replicas)
    too_full = look.situation.pressed or terms.utilization > look.config.max_utilization
    if terms.wanted > target <= cap and (too_full or look.catching_up(state)):
        return _up(look, state, terms, min(terms.wanted, cap))
    lowest = max(look.config.min_replicas, math.ceil(target * look.config.max_down_factor))
    if state.floor is not None and look.time_s < state.floor_until_s:
        lowest = max(lowest, min(state.floor, terms.cap))
    wanted = max(maximum(state.window), lowest)
    if wanted >= target:
        return ScalingStep(target, Reason.STEADY)
    held = []
    if look.situation.level is not Level.NORMAL:
        held.append(Reason.LEVEL_ABOVE_NORMAL)
    if look.situation.pressed or look.time_s - (state.window_from_s or 0.0) < look.config.down_window_s:
        held.append(Reason.SETTLING)
    return ScalingStep(wanted, Reason.DEMAND_DOWN, tuple(held))


def _up(look: _Look, state: ScalingState, terms: ScalingTerms, wanted: int) -> ScalingStep:
    target = state.target or 1
    if wanted <= target:
        return ScalingStep(target, Reason.DEMAND_UP, (terms.capped_by,))
    wanted = min(wanted, math.floor(target * look.config.max_up_factor))
    if state.blocked_above is not None and look.time_s < state.blocked_until_s and wanted > state.blocked_above:
        return ScalingStep(wanted, Reason.DEMAND_UP, (Reason.STEP_INEFFECTIVE,))
    return ScalingStep(max(wanted, target + 1), Reason.DEMAND_UP)


def _concluded(
    look: _Look, state: ScalingState, step: ScalingStep, terms: ScalingTerms | None, held: tuple[Reason, ...] = ()
) -> tuple[ScalingState, ScalingStep]:
    """Act on a step that nothing holds, and set the commit interval for the larger of both numbers."""
    step = ScalingStep(step.recommended, step.why, held + step.held_by, terms)
    target, wanted = state.target or 1, step.recommended or 1
    if look.config.mode is Mode.RECOMMEND:
        held = (*step.held_by, Reason.MODE_RECOMMEND) if wanted != target else step.held_by
        return state, replace(step, held_by=held)
    commit_s = look.observation.commit_duration_s or 0.0
    if not step.held_by and wanted != target:
        change = Change(target, wanted, look.time_s, look.signals.read_per_s, look.situation.level)
        state = _remembered(look, state, change, step.why)
        state = replace(state, target=wanted, change=change, unsteady_at_s=look.time_s, window=(), window_from_s=None)
        state = replace(state, owed_records=look.owed)
        target = max(target, wanted)
    interval_s = commit_interval_s(look.config, state.commit_interval_s, max(target, look.ready), commit_s)
    return state if interval_s == state.commit_interval_s else replace(state, commit_interval_s=interval_s), step


def _remembered(look: _Look, state: ScalingState, change: Change, why: Reason) -> ScalingState:
    """Remember a step down; if it has to be taken back within the window, do not repeat it for a while."""
    survived = state.lowered_from is not None and look.time_s - state.lowered_at_s >= 2 * look.config.down_window_s
    if why is Reason.DEMAND_DOWN:
        floors = 0 if survived else state.floors
        return replace(state, lowered_from=change.before, lowered_at_s=look.time_s, floors=floors)
    if why is not Reason.DEMAND_UP or state.lowered_from is None or survived:
        return state
    until_s = look.time_s + look.config.block_s * 2.0 ** min(state.floors, MOST_BLOCKS)
    return replace(
        state,
        lowered_from=None,
        floor=state.lowered_from,
        floor_until_s=until_s,
        floors=min(state.floors + 1, MOST_BLOCKS),
    )
