"""Looks at a pipeline for tests of the policy: all figures known and quiet, unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import PolicyConfig
from k2_core.types import Level

START_S = 1_800_000_000.0

QUIET = Observation(
    offered_per_s=100.0,
    accepted_per_s=100.0,
    shed_per_s=0.0,
    unread_records=0,
    oldest_unread_age_s=0.0,
    memory_ratio=0.3,
    downstream_failing=False,
    deferred_records=0,
    replicas=2,
    ready_replicas=2,
    active_partitions=16,
    rebalancing=False,
    rolling_out=False,
    commit_duration_s=0.2,
    oldest_uncommitted_age_s=10.0,
    oldest_deferred_age_s=0.0,
    retention_s=86_400.0,
    service_level=Level.NORMAL,
)


class Driver:
    """Runs the policy look by look. Its replicas are set and ready at once, as far as a look does not say otherwise."""

    def __init__(self, config: PolicyConfig, *, replicas: int = 2, every_s: float = 5) -> None:
        self.config = config
        self.state = PolicyState()
        self.now_s = START_S
        self.every_s = every_s
        self.replicas = replicas
        self.decisions: list[Decision] = []

    def look(self, **seen: Any) -> Decision:
        """Take one look: QUIET with these figures."""
        figures: Mapping[str, Any] = {"replicas": self.replicas, "ready_replicas": self.replicas, **seen}
        self.state, decision = step(self.config, self.state, replace(QUIET, **figures), self.now_s)
        self.now_s += self.every_s
        self.replicas = decision.replicas.applied or self.replicas
        self.decisions.append(decision)
        return decision

    def looks(self, seconds: float, **seen: Any) -> Decision:
        """Look for so long at the same figures; return the last decision."""
        decision = self.look(**seen)
        for _ in range(int(seconds / self.every_s) - 1):
            decision = self.look(**seen)
        return decision

    def levels(self) -> list[int]:
        """Return the levels applied so far, repetitions left out."""
        return without_repetitions(int(decision.level.applied) for decision in self.decisions)

    def targets(self) -> list[int]:
        """Return the replicas applied so far, repetitions left out."""
        return without_repetitions(decision.replicas.applied or 0 for decision in self.decisions)


def without_repetitions(numbers: Iterable[int]) -> list[int]:
    """Return each number that differs from the one before it."""
    found: list[int] = []
    for number in numbers:
        if not found or found[-1] != number:
            found.append(number)
    return found
