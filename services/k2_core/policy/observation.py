"""What the policy is told at each step.

Made by the controller from Kafka, the table's state and the services; read by the policy. A value that is not known
is None, never 0: `missing` names what a step cannot do without. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from k2_core.retention import Kept, tightest
from k2_core.types import Level


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a pipeline. Rates are means since the last look; None is missing everywhere.

    Args:
        offered_per_s: Records/s appended to the log: what sinks accept now *and* what they shed. It is the log's
            growth, so that shedding never reads as low load.
        accepted_per_s: Records/s that the sinks read and take in with all of the level's work.
        shed_per_s: Records/s that the sinks read and only enter in the ledger.
        unread_records: Ends minus read positions, of all partitions.
        waiting_records: Those of them in partitions of which everything waits at the level that sinks act on.
        positions_age_s: How long ago sinks told where they read, the oldest of what counts: what came since is unread
            on paper only. Nothing is held without it.
        standing_s: For how long sinks had stood still, as to write and commit, shortly before they told where they
            read: what came meanwhile they read next.
        oldest_unread_age_s: Age of the oldest unread record; 0 if there is none.
        memory_ratio: The fullest sink's memory, as a share of its limit.
        downstream_failing: Whether commits or storage fail now.
        deferred_records: Records in open ledger ranges.
        replicas: Sinks asked for at present.
        ready_replicas: Sinks that work.
        active_partitions: Partitions that receive records.
        rebalancing: Whether the consumer group hands partitions over.
        rolling_out: Whether sinks are being replaced for another reason than scaling.
        commit_duration_s: How long a commit takes, a high percentile.
        oldest_uncommitted_age_s: Age of the oldest record in the log that is not in the table; 0 if there is none.
        oldest_deferred_age_s: Age of the oldest record in the ledger; 0 if there is none.
        retention_s: How long the log keeps a record, the shortest of the topics; where they are bounded in bytes, too,
            missing while it is not known what that means for what is owed.
        size_retention_s: The same by bytes, at the rate at which came what is owed, of the partition that has the least
            time left; None where bytes are not bounded, or nothing is owed.
        size_age_s: Age of the oldest record that is owed of that partition.
        service_level: The highest level that a service has raised itself to.
        stalled_s: For how long sinks have told and taken in nothing although there is something; None: none hangs.
        stopping: Whether the pipeline is being stopped, and waits for all that is owed to be in the table.
    """

    offered_per_s: float | None = None
    accepted_per_s: float | None = None
    shed_per_s: float | None = None
    unread_records: int | None = None
    waiting_records: int | None = None
    positions_age_s: float | None = None
    standing_s: float | None = None
    oldest_unread_age_s: float | None = None
    memory_ratio: float | None = None
    downstream_failing: bool | None = None
    deferred_records: int | None = None
    replicas: int | None = None
    ready_replicas: int | None = None
    active_partitions: int | None = None
    rebalancing: bool | None = None
    rolling_out: bool | None = None
    commit_duration_s: float | None = None
    oldest_uncommitted_age_s: float | None = None
    oldest_deferred_age_s: float | None = None
    retention_s: float | None = None
    size_retention_s: float | None = None
    size_age_s: float | None = None
    service_level: Level | None = None
    stalled_s: float | None = None
    stopping: bool = False


def known(value: float | None) -> bool:
    """Return whether a figure can be used: NaN, infinity and negative figures count as missing."""
    return value is not None and 0 <= value < math.inf


def missing(observation: Observation, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of the fields are not known, in the order of `names`."""
    return tuple([name for name in names if not known(getattr(observation, name))])


def outage_budget_s(observation: Observation) -> float | None:
    """Return for how long sinks may stand still before the log removes what it owes to the table.

    Returns:
        Seconds, 0 when it may remove something already; None where an age or the retention is missing.
    """
    kept = outage_budget(observation)
    return None if kept is None else kept.left_s


def outage_budget(observation: Observation) -> Kept | None:
    """Return what the outage budget is measured by, time or bytes, whichever leaves less; None if it is missing."""
    retention_s = observation.retention_s
    ages = (
        observation.oldest_unread_age_s,
        observation.oldest_uncommitted_age_s,
        observation.oldest_deferred_age_s,
    )
    if retention_s is None or not known(retention_s):
        return None
    oldest_s = 0.0
    for age_s in ages:
        if age_s is None or not known(age_s):
            return None
        oldest_s = max(oldest_s, age_s)
    by_time, size_s, age_s = Kept(retention_s, oldest_s), observation.size_retention_s, observation.size_age_s
    by_size = [Kept(size_s, age_s)] if size_s is not None and age_s is not None else []
    return tightest([by_time, *by_size])
