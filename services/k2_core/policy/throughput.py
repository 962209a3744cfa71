"""What one sink does when it has enough to do, by level: learnt from looks with a backlog.

Used by `k2_core.policy.scaling`. A look's rates are means since the look before, so that the first look of a burst is
mostly calm: only between two looks with a backlog has a sink shown what it can do. Everything else, and all that it
does while it sheds, is a lower bound, which may raise the estimate and never lowers it. Zero is a stall, not a figure.
Pure.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import ScalingConfig
from k2_core.types import Level

TAU_S: Final = 60.0
"""Time constant with which a saturated sink's lower figure is believed; a higher one is believed at once."""

Throughputs: TypeAlias = tuple[float | None, ...]
"""Records/s of one sink, by level; None until that was seen."""


def seen_per_s(observation: Observation) -> float | None:
    """Return the records/s that one sink took in at this look, None while it did nothing."""
    ready, accepted = observation.ready_replicas, observation.accepted_per_s
    return accepted / ready if ready and accepted else None


def learn(
    config: ScalingConfig, known: Throughputs, level: Level, per_s: float | None, saturated_s: float | None
) -> Throughputs:
    """Return what is known after one steady look at the level.

    Args:
        config: Of which the figure that is assumed for level 0 until another is known.
        known: Before.
        level: At which the sinks worked.
        per_s: What one did; see `seen_per_s`.
        saturated_s: For how long it had enough to do and shed nothing, all the time since the look before; None if not.
    """
    before = _level_0s(config, known) if level is Level.NORMAL else known[level]
    if per_s is None or (saturated_s is None and (before is None or per_s < before)):
        return known
    after = per_s
    if saturated_s is not None and before is not None and per_s < before:
        after = before + (per_s - before) * -math.expm1(-saturated_s / TAU_S)
    return known if after == known[level] else (*known[:level], after, *known[level + 1 :])


def at_least_per_s(known: float | None, per_s: float | None, *, behind: bool) -> float | None:
    """Return the most that one sink was seen to do since it had a backlog first, None before.

    Without ever a backlog it would say what is offered, and every load would look like all that a sink can do.
    """
    if per_s is None or (known is None and not behind):
        return known
    return per_s if known is None else max(known, per_s)


def throughput_per_s(
    config: ScalingConfig, known: Throughputs, level: Level, at_least: float | None, at_most: float | None
) -> float | None:
    """Return what one sink is reckoned to do with all of level 0's work, or None if nothing tells.

    A higher level's work is less: its figure bounds level 0's from above, as does a store that became slow meanwhile.
    A level that rises in a burst's first look leaves level 0 without a figure of its own: what is assumed stands in for
    it, or the figure of the lowest level that has one, the smaller of both, or, where each look shed something, a lower
    bound.

    Args:
        config: What is assumed.
        known: See `learn`.
        level: At which the sinks work.
        at_least: A lower bound.
        at_most: What one reads at present, shed or not, if it has a backlog and sheds: it would not do more than that
            with all of the work. None otherwise.
    """
    level_0s = _level_0s(config, known)
    figures = (at_least if level_0s is None else level_0s, known[level], at_most)
    return min((figure for figure in figures if figure is not None), default=None)


def _level_0s(config: ScalingConfig, known: Throughputs) -> float | None:
    """Return level 0's figure, or what stands in for it: what is assumed, but no more than a higher level showed."""
    if known[Level.NORMAL] is not None:
        return known[Level.NORMAL]
    lowest = next((figure for figure in known if figure is not None), None)
    return min((figure for figure in (config.assumed_per_s, lowest) if figure is not None), default=None)
