"""Why a level or a number of replicas is what it is, and what held a change back: the words of status and Events.

Stable: people alert on them. Pure; used by the whole package and by whoever shows a decision.
"""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """In CamelCase, as Kubernetes wants the reasons of Events."""

    STEADY = "Steady"
    """Nothing asks for a change."""
    MODE_OFF = "ModeOff"
    MODE_RECOMMEND = "ModeRecommend"
    METRICS_MISSING = "MetricsMissing"
    """`Decision.missing` names them; everything that needs them stays as it is."""

    FIRST_CROSSING = "FirstCrossing"
    """The first threshold of an episode: acted on at once."""
    FORECAST = "Forecast"
    """A threshold was crossed, and unread lag grows so fast that a higher one follows within the horizon."""
    FURTHER_CROSSING = "FurtherCrossing"
    CIRCUIT_HALF_OPEN = "CircuitHalfOpen"
    """The dwell at level 4 is over: the sink drains at level 3 on trial."""
    PROBE_PASSED = "ProbePassed"
    PROBE_FAILED = "ProbeFailed"
    RECOVERED = "Recovered"
    """All signals stayed below their exits for the dwell: one level down."""
    TAKEN_OVER = "TakenOver"
    """The control topic held no level: it is the one that sinks keep."""

    DWELL_UP = "DwellUp"
    DWELL_DOWN = "DwellDown"
    SCALE_UP_SETTLING = "ScaleUpSettling"
    """A further level waits to see what the replicas under way bring."""
    INSIDE_BAND = "InsideBand"
    """Below the entry of the next level, above the exit of this one."""
    PROBING = "Probing"
    STOPPING = "Stopping"
    """The pipeline is being stopped: nothing is put off any more, and the number of sinks stays."""

    DEMAND_UP = "DemandUp"
    DEMAND_DOWN = "DemandDown"
    STEP_TAKEN_BACK = "StepTakenBack"
    """The last scale-up brought nothing although there was a backlog."""
    BOUNDS = "Bounds"
    """The number of replicas was outside of what the pipeline allows."""

    REBALANCING = "Rebalancing"
    ROLLING_OUT = "RollingOut"
    SETTLING = "Settling"
    """The time after a change in which its effect cannot be told yet."""
    ZERO_THROUGHPUT = "ZeroThroughput"
    """Nothing is read: a stalled sink looks like one without work, so it never shrinks and never grows."""
    SINKS_STALLED = "SinksStalled"
    """No sink reads or says anything although there is something to read: more of them would not help, nor fewer."""
    THROUGHPUT_UNKNOWN = "ThroughputUnknown"
    LEVEL_ABOVE_NORMAL = "LevelAboveNormal"
    """Levels recover before replicas shrink."""
    STEP_INEFFECTIVE = "StepIneffective"
    """More replicas did not help a while ago; not tried again until the block is over."""
    AT_PARTITIONS = "AtPartitions"
    AT_MAX_REPLICAS = "AtMaxReplicas"
    AT_COMMIT_TIME = "AtCommitTime"
    """Commits take so long that more sinks would starve each other at the longest commit interval."""
