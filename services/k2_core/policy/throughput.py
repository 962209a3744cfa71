"""What one sink does when it has enough to do, by level: learnt from looks with a backlog.

Used by `k2_core.policy.scaling`. Without a backlog, or while it sheds, a sink shows only a lower bound, which may raise
the estimate and never lowers it. Zero is a stall, not a figure. Pure.
"""

from __future__ import annotations

import math
from typing import Final, Protocol, TypeAlias

from k2_core.policy.observation import Observation
from k2_core.policy.signals import Signals
from k2_core.policy.thresholds import ScalingConfig
from k2_core.types import Level

TAU_S: Final = 60.0
"""Time constant with which a saturated sink's lower figure is believed; a higher one is believed at once."""

Throughputs: TypeAlias = tuple[float | None, ...]
"""Records/s of one sink, by level; None until that was seen."""


class Pressure(Protocol):
    """What is asked of a situation: its signals, and whether a threshold is crossed."""

    @property
    def signals(self) -> Signals:
        """Of this look."""

    @property
    def pressed(self) -> bool:
        """Whether the sinks have a backlog."""


def learn(known: Throughputs, level: Level, observation: Observation, situation: Pressure) -> Throughputs:
    """Return what is known after one steady look at the level."""
    ready, accepted = observation.ready_replicas, observation.accepted_per_s
    if not ready or not accepted:
        return known
    seen = accepted / ready
    before = known[level]
    saturated = situation.pressed and not observation.shed_per_s
    if before is None:
        after = seen if saturated else None
    elif seen >= before:
        after = seen
    else:
        weight = -math.expm1(-situation.signals.calm_s / TAU_S)
        after = before + (seen - before) * weight if saturated else before
    return known if after == before else (*known[:level], after, *known[level + 1 :])


def throughput_per_s(config: ScalingConfig, known: Throughputs, level: Level) -> float | None:
    """Return what one sink is reckoned to do with all of level 0's work, or None if nothing tells.

    A higher level's work is less: its figure bounds level 0's from above, as does a store that became slow meanwhile.
    """
    figures = [figure for figure in (known[Level.NORMAL], known[level]) if figure is not None]
    return min(figures, default=config.assumed_per_s)
