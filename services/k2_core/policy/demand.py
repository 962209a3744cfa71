"""How many sinks a load needs: the formula, its terms, its bounds, and the commit interval that goes with them.

    demand  = offered / target utilisation + (unread + deferred) / catch-up time [+ offered * restart / catch-up time]
    wanted  = ceil(demand / throughput of one sink), and so many that the fullest is within the maximum utilisation

after Flink's autoscaler. The last term counts before scaling down only: what a change itself costs. Partitions are not
divisible: of 8, each of 7 sinks has one, but for one that has two and as much to do as any of 4. There is no tolerance
below the ceiling, as in a horizontal pod autoscaler, that would stick one sink below what is needed.
Used by `k2_core.policy.scaling`. Pure; it remembers nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import ScalingConfig

SHORTEST_CATCH_UP_S: Final = 60.0
COMMITS_PER_INTERVAL: Final = 2
"""Sinks commit to one table in turns: an interval is at least this many times replicas times the time of a commit."""
_SHORTEN_BELOW: Final = 0.7
"""The commit interval is shortened only if so small a share of it would do, so that a noisy store does not move it."""


@dataclass(frozen=True, slots=True)
class ScalingTerms:
    """The formula with its figures, for status and for people.

    Args:
        offered_per_s: The offered load that was reckoned with.
        backlog_records: Unread and deferred records.
        catch_up_s: Within which they are to be worked off.
        throughput_per_s: Of one sink.
        load_per_s: offered / target utilisation.
        backlog_per_s: backlog / catch-up time.
        restart_per_s: What a change costs, counted before scaling down.
        utilization: Share of its throughput that the offered load takes of the ready sink with the most partitions.
        wanted: Sinks to cope with it, unbounded.
        wanted_down: Sinks that would do even after the pause of a change, unbounded.
        cap: The most that there may be now.
        capped_by: What sets the cap.
    """

    offered_per_s: float
    backlog_records: float
    catch_up_s: float
    throughput_per_s: float
    load_per_s: float
    backlog_per_s: float
    restart_per_s: float
    utilization: float
    wanted: int
    wanted_down: int
    cap: int
    capped_by: Reason


@dataclass(frozen=True, slots=True)
class Load:
    """What sinks have to do.

    Args:
        offered_per_s: Records/s.
        backlog_records: Unread and deferred records.
        throughput_per_s: Of one sink, records/s, above 0.
        ready_replicas: Sinks that work now.
        outage_budget_s: See `observation.outage_budget_s`.
        active_partitions: Among which the load is divided, taken as equal.
    """

    offered_per_s: float
    backlog_records: float
    throughput_per_s: float
    ready_replicas: int
    outage_budget_s: float | None
    active_partitions: int

    def utilization(self, sinks: int) -> float:
        """Return the share of its throughput that the offered load takes of the fullest of so many sinks."""
        partitions = max(1, self.active_partitions)
        return self.offered_per_s * math.ceil(partitions / sinks) / partitions / self.throughput_per_s


def reckon(config: ScalingConfig, load: Load, cap: tuple[int, Reason]) -> ScalingTerms:
    """Return the formula's terms."""
    catch_up_s = config.catch_up_s
    if load.outage_budget_s is not None:
        # Half of what retention leaves: the other half is for whatever goes wrong on the way.
        catch_up_s = min(catch_up_s, max(SHORTEST_CATCH_UP_S, load.outage_budget_s / 2))
    offered_per_s = load.offered_per_s / config.target_utilization
    backlog_per_s = load.backlog_records / catch_up_s
    restart_per_s = load.offered_per_s * config.restart_s / catch_up_s
    return ScalingTerms(
        offered_per_s=load.offered_per_s,
        backlog_records=load.backlog_records,
        catch_up_s=catch_up_s,
        throughput_per_s=load.throughput_per_s,
        load_per_s=offered_per_s,
        backlog_per_s=backlog_per_s,
        restart_per_s=restart_per_s,
        utilization=load.utilization(max(1, load.ready_replicas)),
        wanted=_even(config, load, _ceil((offered_per_s + backlog_per_s) / load.throughput_per_s)),
        wanted_down=_even(config, load, _ceil((offered_per_s + backlog_per_s + restart_per_s) / load.throughput_per_s)),
        cap=cap[0],
        capped_by=cap[1],
    )


def _even(config: ScalingConfig, load: Load, sinks: int) -> int:
    """Return so many sinks, or the next number of them of which the fullest is not too full, if there is one."""
    for more in range(sinks, load.active_partitions + 1) if sinks else ():
        if load.utilization(more) <= config.max_utilization:
            return more
    return sinks


def _ceil(sinks: float) -> int:
    """Round up, but not for the rounding of the figures themselves."""
    return math.ceil(sinks * (1 - 1e-12))


def replica_cap(config: ScalingConfig, active_partitions: int, commit_duration_s: float) -> tuple[int, Reason]:
    """Return the most sinks that there may be, at least 1, and what bounds them.

    Args:
        config: Its maxima.
        active_partitions: A sink without a partition does nothing.
        commit_duration_s: At the longest commit interval so many sinks get a turn.
    """
    by_commits = config.max_replicas
    if commit_duration_s > 0:
        turns = config.max_commit_interval_s / (COMMITS_PER_INTERVAL * commit_duration_s)
        by_commits = max(1, int(min(turns, config.max_replicas)))
    bounds = (
        (config.max_replicas, Reason.AT_MAX_REPLICAS),
        (max(1, active_partitions), Reason.AT_PARTITIONS),
        (by_commits, Reason.AT_COMMIT_TIME),
    )
    return min(bounds, key=lambda bound: bound[0])


def commit_interval_s(config: ScalingConfig, current_s: float | None, replicas: int, commit_duration_s: float) -> float:
    """Return the commit interval for so many sinks: lengthened at once, shortened only where much shorter would do."""
    needed_s = COMMITS_PER_INTERVAL * replicas * commit_duration_s
    needed_s = min(config.max_commit_interval_s, max(config.commit_interval_s, needed_s))
    if current_s is None or needed_s > current_s or needed_s < _SHORTEN_BELOW * current_s:
        return needed_s
    return current_s
