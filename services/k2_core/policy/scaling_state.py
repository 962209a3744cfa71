"""What is remembered about the number of sinks from one step to the next.

Changed by `k2_core.policy.scaling` alone; stored by `k2_core.policy.memory`. Times are the policy's own (`signals`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from k2_core.policy.throughput import Throughputs
from k2_core.policy.window import Window
from k2_core.types import Level


@dataclass(frozen=True, slots=True)
class Change:
    """The last change of the number of sinks, until it is judged.

    Args:
        before: Sinks before.
        after: Sinks after.
        at_s: When, in the policy's time.
        read_per_s: What was read just before the new sinks began, or None if that was not known.
        level: The level at that time.
    """

    before: int
    after: int
    at_s: float
    read_per_s: float | None
    level: Level


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What is remembered about replicas.

    Args:
        target: Sinks that were last asked for.
        change: What is not judged yet.
        unsteady_at_s: When a roll-out or rebalance was last seen.
        throughputs: What one sink does, by level; see `throughput`.
        at_least_per_s: The most that one was seen to do since it had a backlog first; see `throughput`.
        onset_per_s: What one did in the look in which the present backlog began, 0 if not known; None without one.
        owed_records: The most that were owed since the last change, or since none were.
        window: Recommendations to scale down; see `window`.
        window_from_s: Since when they have been made without a change.
        blocked_above: More sinks than this did not help.
        blocked_until_s: Until when that is believed.
        blocks: How often in a row.
        lowered_from: Sinks before the last step down.
        lowered_at_s: When that was.
        floor: Not fewer than this: a step below had to be taken back.
        floor_until_s: Until when that is believed.
        floors: How often in a row.
        commit_interval_s: As it is now.
    """

    target: int | None = None
    change: Change | None = None
    unsteady_at_s: float = -math.inf
    throughputs: Throughputs = (None,) * len(Level)
    at_least_per_s: float | None = None
    onset_per_s: float | None = None
    owed_records: int = 0
    window: Window = ()
    window_from_s: float | None = None
    blocked_above: int | None = None
    blocked_until_s: float = 0.0
    blocks: int = 0
    lowered_from: int | None = None
    lowered_at_s: float = 0.0
    floor: int | None = None
    floor_until_s: float = 0.0
    floors: int = 0
    commit_interval_s: float | None = None
