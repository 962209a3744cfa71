"""What a controller decides from, for tests of status and rendering: decisions of the policy without a Kafka."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from k2_core.controller.look import Look
from k2_core.controller.loop import Tick
from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.types import Level

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CALM = Observation(
    offered_per_s=100,
    accepted_per_s=100,
    shed_per_s=0,
    unread_records=0,
    oldest_unread_age_s=0,
    memory_ratio=0.1,
    downstream_failing=False,
    deferred_records=0,
    replicas=2,
    ready_replicas=2,
    active_partitions=8,
    rebalancing=False,
    rolling_out=False,
    commit_duration_s=0.1,
    oldest_uncommitted_age_s=0,
    oldest_deferred_age_s=0,
    retention_s=1_000,
    service_level=Level.NORMAL,
)


def config(degradation: Mode = Mode.AUTO, scaling: Mode = Mode.AUTO) -> PolicyConfig:
    """Settings with these modes."""
    return PolicyConfig(DegradationConfig(mode=degradation), ScalingConfig(mode=scaling, assumed_per_s=1_000))


def decision(observation: Observation = CALM, settings: PolicyConfig | None = None) -> Decision:
    """What the policy says of one look, without a past."""
    return step(config() if settings is None else settings, PolicyState(), observation, 1_000_000.0)[1]


def tick(found: Decision, **more: object) -> Tick:
    """A turn that brought this decision."""
    return replace(Tick(found, Look(at=MOMENT), None, told=True), **more)  # type: ignore[arg-type]
