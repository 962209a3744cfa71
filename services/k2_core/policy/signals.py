"""What can be told from one look at the pipeline and the looks before: smoothed rates, slope, forecast, draining.

Kept between steps as `SignalState`, first in each step of `k2_core.policy.decision`. Also owns the policy's own time:
seconds that passed between steps, which never run backwards, whatever the controller's clock does. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from k2_core.policy.observation import Observation, known, missing
from k2_core.policy.thresholds import DegradationConfig

SLOPE_TAU_S: Final = 10.0
"""Time constant of the unread lag's slope and of the rates read: a burst shows after one or two looks."""
OFFERED_TAU_S: Final = 30.0
"""Time constant of the offered rate: noise of single seconds must not move replicas."""
NOISE: Final = 1.2
"""Under a steady load, what came in a few seconds is up to so many times what the rates say."""
GAP_S: Final = 60.0
"""Two looks further apart than this say nothing of the time between them: slopes and calm start anew."""

LEVEL_NEEDS: Final = ("unread_records", "oldest_unread_age_s", "offered_per_s", "downstream_failing")


@dataclass(frozen=True, slots=True)
class SignalState:
    """What is remembered of earlier looks.

    Args:
        now_s: The controller's clock at the last step, UTC seconds; None before the first.
        time_s: The policy's time at the last step.
        known_at_s: The policy's time of the last look at which the figures for levels were known.
        unread_records: At that look, without what is unread on paper only.
        slope_per_s: Smoothed; None until two looks were known.
        offered_per_s: Smoothed.
        read_per_s: Smoothed rate of all that was read, shed or not; None while it is missing.
    """

    now_s: float | None = None
    time_s: float = 0.0
    known_at_s: float | None = None
    unread_records: float = 0.0
    slope_per_s: float | None = None
    offered_per_s: float | None = None
    read_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """What this step goes by.

    Args:
        time_s: The policy's time.
        calm_s: Seconds since the last step for which its figures stand; 0 after a gap.
        gap: Whether too much time has passed since figures were known for them to be continued.
        missing: The figures for levels that are missing; the others are then those of the last look.
        unread_records: Without what is unread on paper only.
        slope_per_s: Of unread lag; above 0 it grows.
        forecast_records: Unread lag at the horizon.
        draining: Whether the backlog would be gone soon enough at this slope, or may, as no slope is known: only a
            backlog that is known to stay stops a sink.
        offered_per_s: Smoothed.
        read_per_s: Smoothed.
    """

    time_s: float
    calm_s: float
    gap: bool
    missing: tuple[str, ...]
    unread_records: float
    slope_per_s: float
    forecast_records: float
    draining: bool
    offered_per_s: float | None
    read_per_s: float | None


def read_signals(
    config: DegradationConfig, state: SignalState, observation: Observation, now_s: float
) -> tuple[SignalState, Signals]:
    """Take one look in.

    Args:
        config: Horizons.
        state: Of the last step.
        observation: The look.
        now_s: The controller's clock, UTC seconds. If it was set back, no time has passed.
    """
    elapsed_s = 0.0 if state.now_s is None else max(0.0, now_s - state.now_s)
    time_s = state.time_s + elapsed_s
    needs = (*LEVEL_NEEDS, "memory_ratio") if config.watch_memory else LEVEL_NEEDS
    absent = missing(observation, needs)
    known_for_s = math.inf if state.known_at_s is None else time_s - state.known_at_s
    gap = known_for_s > GAP_S
    if absent or observation.unread_records is None or observation.offered_per_s is None:
        after = SignalState(
            now_s, time_s, state.known_at_s, state.unread_records, state.slope_per_s, state.offered_per_s, None
        )
    else:
        offered_per_s = _smoothed(state.offered_per_s, observation.offered_per_s, known_for_s, OFFERED_TAU_S)
        unread = max(0.0, observation.unread_records - _on_paper(config, observation, offered_per_s))
        slope = _slope(state, unread, known_for_s, gap=gap)
        read = _read(state, observation, known_for_s)
        after = SignalState(now_s, time_s, time_s, unread, slope, offered_per_s, read)
    return after, _signals(config, after, absent, 0.0 if gap else elapsed_s, gap=gap)


def _signals(
    config: DegradationConfig, state: SignalState, absent: tuple[str, ...], calm_s: float, *, gap: bool
) -> Signals:
    slope = state.slope_per_s or 0.0
    return Signals(
        time_s=state.time_s,
        calm_s=calm_s,
        gap=gap,
        missing=absent,
        unread_records=state.unread_records,
        slope_per_s=slope,
        forecast_records=state.unread_records + max(0.0, slope) * config.forecast_horizon_s,
        draining=state.slope_per_s is None or (slope < 0 and state.unread_records <= -slope * config.draining_within_s),
        offered_per_s=state.offered_per_s,
        read_per_s=state.read_per_s,
    )


def _on_paper(config: DegradationConfig, observation: Observation, smoothed_per_s: float) -> float:
    """Return how many records look unread with sinks that keep up.

    What came since they told positions, and what they had on the way to them then: half a second's worth, and what came
    while they stood still for a commit, if that was shortly before they told.
    """
    # The smaller of the two rates: a burst's own rate must not hide its first seconds, nor a burst's that is over.
    steady_per_s = NOISE * min(smoothed_per_s, observation.offered_per_s or 0.0)
    told_s, stood_s = observation.positions_age_s, observation.standing_s
    if told_s is None or not known(told_s):
        return (config.in_hand_s + config.position_interval_s) * steady_per_s
    standing_s = min(stood_s, config.standing_at_most_s) if stood_s is not None and known(stood_s) else 0.0
    return (told_s + config.in_hand_s + standing_s) * steady_per_s


def _slope(state: SignalState, unread: float, elapsed_s: float, *, gap: bool) -> float | None:
    if gap:
        return None
    if elapsed_s <= 0:
        return state.slope_per_s
    return _smoothed(state.slope_per_s, (unread - state.unread_records) / elapsed_s, elapsed_s, SLOPE_TAU_S)


def _read(state: SignalState, observation: Observation, elapsed_s: float) -> float | None:
    if observation.accepted_per_s is None or observation.shed_per_s is None:
        return None
    return _smoothed(state.read_per_s, observation.accepted_per_s + observation.shed_per_s, elapsed_s, SLOPE_TAU_S)


def _smoothed(before: float | None, value: float, elapsed_s: float, tau_s: float) -> float:
    """Return an exponential mean whose weights go by time, so that it does not depend on how often one looks."""
    if before is None or elapsed_s == math.inf:
        return value
    return before + (value - before) * -math.expm1(-elapsed_s / tau_s)
