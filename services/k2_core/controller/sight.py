"""From two looks to what the policy is told: rates from differences, and unknown where something is not known.

Called by `k2_core.controller.loop`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from k2_core.controller.lag import total
from k2_core.controller.look import Look
from k2_core.controller.stall import Stall
from k2_core.policy.observation import Observation
from k2_core.retention import Kept, capacity_records, kept_by_size, tightest
from k2_core.sink_report import SinkReport
from k2_core.types import Level


@dataclass(frozen=True, slots=True)
class Executor:
    """What whoever runs the sinks knows.

    Args:
        replicas: Sinks asked for at present; None: not known.
        rolling_out: Whether sinks are being replaced for another reason than scaling.
        stopping: Whether the pipeline is being stopped, and waits for all that is owed to be in the table.
    """

    replicas: int | None
    rolling_out: bool = False
    stopping: bool = False


def observe(before: Look | None, look: Look, executor: Executor, stall: Stall | None = None) -> Observation:
    """Return one look as the policy wants it.

    Args:
        before: The look before, for rates; None at the first.
        look: This one.
        executor: What whoever runs the sinks knows.
        stall: What hangs.
    """
    fresh = [report for report in look.reports.values() if report.fresh(look.at)]
    # Nobody in the group: then nobody uses memory, fails or has raised a level. Members that do not tell are unknown,
    # until it is known that they hang: then what Kafka says of the lag has to do.
    told = bool(fresh) or look.members == 0 or stall is not None
    lag = total(look.partitions)
    owing = [report for report in fresh or look.reports.values() if report.deferred]
    shed = _shed_per_s(before, look)
    sized, deferred_age_s = _kept_by_size(look), _oldest_deferred_age_s(owing, look.at)
    by_size = None if sized is None else tightest([*sized, *_deferred_by_size(owing, look.at)])
    read = _read_per_s(before, look)
    return Observation(
        offered_per_s=_offered_per_s(before, look),
        accepted_per_s=None if read is None or shed is None else max(0.0, read - shed),
        shed_per_s=shed,
        unread_records=lag.unread,
        waiting_records=sum(one.waiting for one in fresh),
        positions_age_s=_positions_age_s(look, fresh),
        standing_s=max((one.standing_s for one in fresh), default=None),
        oldest_unread_age_s=lag.unread_age_s,
        memory_ratio=_memory_ratio(fresh) if told else None,
        downstream_failing=any(report.failing for report in fresh) if told else None,
        deferred_records=sum(report.deferred for report in owing),
        replicas=executor.replicas,
        ready_replicas=min(len(fresh), look.members),
        active_partitions=sum(one.end > one.start for one in look.partitions),
        rebalancing=look.rebalancing,
        rolling_out=executor.rolling_out,
        commit_duration_s=max((one.commit_s for one in fresh if one.commit_s is not None), default=None),
        oldest_uncommitted_age_s=lag.uncommitted_age_s,
        oldest_deferred_age_s=deferred_age_s,
        retention_s=None if sized is None else look.retention_s,
        size_retention_s=None if by_size is None else by_size.retention_s,
        size_age_s=None if by_size is None else by_size.age_s,
        stalled_s=None if stall is None else stall.seconds,
        stopping=executor.stopping,
        service_level=max((report.own_level for report in fresh), default=Level.NORMAL),
    )


def _kept_by_size(look: Look) -> list[Kept] | None:
    """How long topics that are bounded in bytes keep what is not in the table; None where that is not known.

    A sink tells the bytes of a record; the greatest counts, of sinks that are gone, too.
    """
    sizes = [one.record_bytes for one in look.reports.values() if one.record_bytes]
    found: list[Kept] = []
    for one in look.partitions:
        limit_bytes = look.retention_bytes.get(one.at[0])
        for behind, age_s in ((one.unread, one.unread_age_s), (one.uncommitted, one.uncommitted_age_s)):
            if limit_bytes is None or behind == 0:
                continue
            if behind is None or age_s is None or not sizes:
                return None
            found.append(kept_by_size(age_s, behind, capacity_records(limit_bytes, max(sizes))))
    return found


def _deferred_by_size(owing: Sequence[SinkReport], now: datetime) -> list[Kept]:
    """The same of what levels put off and only the log holds: at the rate at which came what stands behind it."""
    found = []
    for one in owing:
        if one.deferred_share and one.oldest_deferred_at is not None:
            age_s = max(0.0, (now - one.oldest_deferred_at).total_seconds())
            found.append(Kept(age_s / one.deferred_share, age_s))
    return found


def _positions_age_s(look: Look, fresh: Sequence[SinkReport]) -> float | None:
    """How long ago positions were told; None if a member of the group is silent, as then its backlog is real."""
    if len(fresh) < max(1, look.members):
        return None
    return max(max(0.0, (look.at - report.at).total_seconds()) for report in fresh)


def _memory_ratio(fresh: Sequence[SinkReport]) -> float | None:
    known = [report.memory_ratio for report in fresh if report.memory_ratio is not None]
    return None if len(known) < len(fresh) else max(known, default=0.0)


def _elapsed_s(before: Look | None, look: Look) -> float | None:
    if before is None or {one.at for one in before.partitions} != {one.at for one in look.partitions}:
        return None
    elapsed_s = (look.at - before.at).total_seconds()
    return elapsed_s if elapsed_s > 0 else None


def _offered_per_s(before: Look | None, look: Look) -> float | None:
    """What was appended to the log: shedding never reads as low load."""
    elapsed_s = _elapsed_s(before, look)
    if before is None or elapsed_s is None:
        return None
    ends = {one.at: one.end for one in before.partitions}
    return sum(max(0, one.end - ends[one.at]) for one in look.partitions) / elapsed_s


def _read_per_s(before: Look | None, look: Look) -> float | None:
    """How far read positions went, which Kafka knows of sinks that are gone, too."""
    elapsed_s = _elapsed_s(before, look)
    if before is None or elapsed_s is None:
        return None
    positions = {one.at: one.read for one in before.partitions}
    gone = 0
    for one in look.partitions:
        last = positions[one.at]
        if one.read is not None:
            gone += max(0, one.read - (one.start if last is None else last))
    return gone / elapsed_s


def _shed_per_s(before: Look | None, look: Look) -> float | None:
    elapsed_s = _elapsed_s(before, look)
    if before is None or elapsed_s is None:
        return None
    return _grown(before.reports, look.reports) / elapsed_s


def _grown(before: Mapping[str, SinkReport], now: Mapping[str, SinkReport]) -> int:
    """How much the counts of sheds grew; a sink that was not there before has shed all of its count since."""
    return sum(max(0, one.shed - (before[name].shed if name in before else 0)) for name, one in now.items())


def _oldest_deferred_age_s(owing: Sequence[SinkReport], now: datetime) -> float | None:
    """0 if nothing is deferred, None if something is and nobody says since when."""
    moments = [report.oldest_deferred_at for report in owing if report.oldest_deferred_at is not None]
    if len(moments) < len(owing):
        return None
    return max((max(0.0, (now - moment).total_seconds()) for moment in moments), default=0.0)
