"""A pipeline in a few numbers, second by second: load, partitions, sinks that start and rebalance, a store, levels.

What the policy's traces and its benchmark run on. Seeded: a seed and a world give one run. The policy is one
controller, KEDA's rule another, on the same world. It is no model of a machine: it has what makes controllers swing,
namely pauses after each change, start-up times, work that a level saves, partitions that hold one sink back, a store
that many sinks choke.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from k2_core.policy.classes import Priority, is_deferred
from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.types import Level

LOOK_S = 5
EPOCH_S = 1_800_000_000.0
SHED_COST = 0.15
"""What reading a record and entering it in the ledger costs, against taking it in at level 0."""
LEVEL_COST = {Level.NORMAL: 1.0, Level.SOFT: 0.8, Level.GRACEFUL: 0.7, Level.AGGRESSIVE: 0.7}
SHARES = {Priority.LOW: 0.3, Priority.NORMAL: 0.5, Priority.CRITICAL: 0.2}

OfTime = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class World:
    """One scenario. Functions are of seconds since the start."""

    offered_per_s: OfTime
    duration_s: int = 3 * 3600
    partitions: int = 16
    weights: tuple[float, ...] = ()
    critical_only: frozenset[int] = frozenset()
    sink_per_s: float = 2_000
    store: OfTime = lambda _: 1.0
    failing: Callable[[float], bool] = lambda _: False
    memory: OfTime = lambda _: 0.3
    missing: Callable[[float], bool] = lambda _: False
    replicas: int = 1
    start_s: int = 20
    rebalance_s: int = 6
    commit_s: float = 0.2
    retention_s: float = 7 * 86_400
    noise: float = 0.05

    def share(self, partition: int) -> float:
        return self.weights[partition] / sum(self.weights) if self.weights else 1 / self.partitions


class Controller(Protocol):
    """Decides at each look."""

    def decide(self, observation: Observation, now_s: float) -> tuple[int, Level, float]:
        """Return sinks, level and commit interval."""


class K2:
    """The policy under test; `decisions` holds all that it said."""

    def __init__(self, config: PolicyConfig | None = None, state: PolicyState | None = None) -> None:
        self.config = config or auto()
        self.state = state or PolicyState()
        self.decisions: list[Decision] = []

    def decide(self, observation: Observation, now_s: float) -> tuple[int, Level, float]:
        self.state, decision = step(self.config, self.state, observation, now_s)
        self.decisions.append(decision)
        return decision.replicas.applied or 1, decision.level.applied, decision.replicas.commit_interval_s


class Keda:
    """KEDA's Kafka scaler behind a HorizontalPodAutoscaler with its defaults: ceil(lag / threshold), no levels.

    Looks each 15 s; 10 % tolerance; up by 4 or 100 % in 15 s; down to the largest wish of 300 s; at most a sink a
    partition.
    """

    def __init__(self, threshold: float, *, at_most: int) -> None:
        self.threshold = threshold
        self.at_most = at_most
        self.replicas: int | None = None
        self.next_s = 0.0
        self.wishes: deque[tuple[float, int]] = deque()

    def decide(self, observation: Observation, now_s: float) -> tuple[int, Level, float]:
        current = self.replicas or observation.replicas or 1
        if now_s >= self.next_s and observation.unread_records is not None:
            self.next_s = now_s + 15
            current = self._wish(current, observation.unread_records, now_s)
        self.replicas = current
        return current, Level.NORMAL, 10

    def _wish(self, current: int, lag: float, now_s: float) -> int:
        wanted = max(1, min(self.at_most, math.ceil(lag / self.threshold)))
        if abs(lag / (self.threshold * current) - 1) <= 0.1:
            wanted = current
        self.wishes.append((now_s, wanted))
        while self.wishes[0][0] < now_s - 300:
            self.wishes.popleft()
        if wanted > current:
            return min(wanted, max(current + 4, current * 2))
        return min(current, max(wish for _, wish in self.wishes))


@dataclass(frozen=True, slots=True)
class Row:
    """The pipeline at one look, and what was decided then."""

    at_s: int
    unread: int
    age_s: float
    deferred: int
    ready: int
    replicas: int
    level: Level


@dataclass(slots=True)
class Run:
    """What happened."""

    rows: list[Row] = field(default_factory=list)

    def changes(self, start_s: float = 0, end_s: float = math.inf) -> int:
        """Return how often the number of sinks was changed."""
        pairs = zip(self.rows, self.rows[1:], strict=False)
        return sum(a.replicas != b.replicas for a, b in pairs if start_s <= b.at_s < end_s)

    def peak(self) -> int:
        return max(row.unread for row in self.rows)

    def levels(self) -> list[Level]:
        """Return the levels in order, repetitions left out."""
        found: list[Level] = []
        for row in self.rows:
            if not found or found[-1] is not row.level:
                found.append(row.level)
        return found

    def replicas(self) -> list[int]:
        """Return the numbers of sinks in order, repetitions left out."""
        found: list[int] = []
        for row in self.rows:
            if not found or found[-1] != row.replicas:
                found.append(row.replicas)
        return found

    def recovered_s(self, since_s: float, below: int) -> float:
        """Return the seconds from then until unread lag is below a figure for good, and nothing is deferred."""
        late = [row.at_s for row in self.rows if row.at_s >= since_s and (row.unread >= below or row.deferred)]
        return late[-1] - since_s + LOOK_S if late else 0.0

    def sink_hours(self) -> float:
        return sum(row.replicas for row in self.rows) * LOOK_S / 3600

    def at(self, at_s: float) -> Row:
        return next(row for row in self.rows if row.at_s >= at_s)


def auto(degradation: DegradationConfig | None = None, scaling: ScalingConfig | None = None) -> PolicyConfig:
    """Return the defaults with both halves acting."""
    return PolicyConfig(degradation or DegradationConfig(Mode.AUTO), scaling or ScalingConfig(Mode.AUTO))


class Pipeline:
    """The state of a world."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.backlog: list[deque[list[float]]] = [deque() for _ in range(world.partitions)]
        self.unread = [0.0] * world.partitions
        self.deferred = 0.0
        self.deferred_since_s = 0.0
        self.replicas = world.replicas
        self.ready_at: list[float] = [0.0] * world.replicas
        self.ready = world.replicas
        self.rebalancing_until = 0.0
        self.level = Level.NORMAL
        self.interval_s = 10.0
        self.failed = False
        self.offered = self.accepted = self.shed = 0.0

    def second(self, now: float) -> None:
        """Let one second pass."""
        rate = max(0.0, self.world.offered_per_s(now) * self.random.gauss(1, self.world.noise))
        for number, queue in enumerate(self.backlog):
            count = rate * self.world.share(number)
            queue.append([now, count])
            self.unread[number] += count
        self.offered += rate
        ready = sum(at <= now for at in self.ready_at)
        if ready != self.ready:
            self.ready, self.rebalancing_until = ready, now + self.world.rebalance_s
        if self.level is not Level.CIRCUIT_BREAK and now >= self.rebalancing_until and self.ready:
            self.failed = self.world.failing(now)
            if not self.failed:
                self._consume(now)

    def _consume(self, now: float) -> None:
        turns = self.ready * self.world.commit_s / self.interval_s
        speed = self.world.sink_per_s * self.world.store(now) * min(1.0, 0.5 / turns if turns else 1.0)
        deferred = sum(share for kind, share in SHARES.items() if is_deferred(self.level, kind))
        sheds = [0.0 if number in self.world.critical_only else deferred for number in range(self.world.partitions)]
        costs = [(1 - shed) * LEVEL_COST[self.level] + shed * SHED_COST for shed in sheds]
        for sink in range(self.ready):
            mine = range(sink, self.world.partitions, self.ready)
            left = speed
            total = sum(self.unread[number] * costs[number] for number in mine)
            share = min(1.0, left / total) if total else 0.0
            for number in mine:
                taken = self._take(number, self.unread[number] * share)
                left -= taken * costs[number]
                self.accepted += taken * (1 - sheds[number])
                self._defer(taken * sheds[number], now)
            if self.level <= Level.SOFT and left > 0:
                self.deferred -= min(self.deferred, left, speed / 4)

    def _take(self, number: int, count: float) -> float:
        queue, left = self.backlog[number], count
        while queue and left >= queue[0][1]:
            left -= queue.popleft()[1]
        if queue:
            queue[0][1] -= left
        self.unread[number] = max(0.0, self.unread[number] - count)
        return count

    def _defer(self, count: float, now: float) -> None:
        if count and not self.deferred:
            self.deferred_since_s = now
        self.shed += count
        self.deferred += count

    def age_s(self, now: float) -> float:
        oldest = [queue[0][0] for queue, unread in zip(self.backlog, self.unread, strict=True) if queue and unread >= 1]
        return now - min(oldest, default=now)

    def look(self, now: float) -> Observation:
        """Return what a controller sees; counters start anew."""
        if self.world.missing(now):
            self.offered = self.accepted = self.shed = 0.0
            return Observation()
        # Positions are told once a second: up to that much is unread on paper only.
        told_s = self.random.random()
        on_paper = self.world.offered_per_s(now) * told_s
        seen = Observation(
            offered_per_s=self.offered / LOOK_S,
            accepted_per_s=self.accepted / LOOK_S,
            shed_per_s=self.shed / LOOK_S,
            unread_records=int(sum(self.unread) + on_paper),
            positions_age_s=told_s,
            oldest_unread_age_s=self.age_s(now),
            memory_ratio=self.world.memory(now),
            downstream_failing=self.failed,
            deferred_records=int(self.deferred),
            replicas=self.replicas,
            ready_replicas=self.ready,
            active_partitions=sum(self.world.share(number) > 0 for number in range(self.world.partitions)),
            rebalancing=now < self.rebalancing_until,
            rolling_out=False,
            commit_duration_s=self.world.commit_s,
            oldest_uncommitted_age_s=self.age_s(now) + self.interval_s,
            oldest_deferred_age_s=now - self.deferred_since_s if self.deferred >= 1 else 0.0,
            retention_s=self.world.retention_s,
            service_level=Level.NORMAL,
        )
        self.offered = self.accepted = self.shed = 0.0
        return seen

    def act(self, replicas: int, level: Level, interval_s: float, now: float) -> None:
        self.level, self.interval_s = level, interval_s
        if replicas > self.replicas:
            self.ready_at += [now + self.world.start_s] * (replicas - self.replicas)
        self.ready_at = self.ready_at[:replicas]
        self.replicas = replicas


def simulate(world: World, controller: Controller, seed: int = 1) -> Run:
    """Run a world under a controller."""
    pipeline, run = Pipeline(world, seed), Run()
    for now in range(1, world.duration_s + 1):
        pipeline.second(now)
        if now % LOOK_S == 0:
            seen = pipeline.look(now)
            unread, age_s = int(sum(pipeline.unread)), pipeline.age_s(now)
            decided = controller.decide(seen, EPOCH_S + now)
            pipeline.act(*decided, now)
            run.rows.append(
                Row(now, unread, age_s, int(pipeline.deferred), pipeline.ready, pipeline.replicas, pipeline.level)
            )
    return run


def burst(factor: float = 10, *, base: float = 1_000, start_s: float = 600, end_s: float = 1_200) -> OfTime:
    """Return a load that is multiplied for a while."""
    return lambda now: base * factor if start_s <= now < end_s else base


def saw_tooth(low: float, high: float, period_s: float) -> OfTime:
    """Return a load that climbs and drops."""
    return lambda now: low + (high - low) * (now % period_s) / period_s


def flapping(share: float, outages: tuple[tuple[int, int], ...]) -> Callable[[float], bool]:
    """Return a source of metrics that is silent at a share of the looks, and all through its outages."""
    return lambda now: (
        random.Random(int(now)).random() < share or any(start_s <= now < end_s for start_s, end_s in outages)
    )


SCENARIOS: dict[str, World] = {
    "constant": World(lambda _: 6_000, replicas=5, duration_s=4 * 3600, partitions=8),
    "burst": World(burst(), duration_s=2 * 3600),
    "slow leak": World(lambda _: 1_000, store=lambda now: max(0.2, 1 - now / 7_200), partitions=8),
    "saw-tooth": World(saw_tooth(500, 3_500, 600), duration_s=2 * 3600, partitions=8),
    "dead sink": World(lambda _: 1_000, failing=lambda now: 600 <= now < 1_500, duration_s=2 * 3600, partitions=8),
    "hot partition": World(
        lambda _: 4_500, replicas=2, partitions=8, weights=(14.0, 1, 1, 1, 1, 1, 1, 1), critical_only=frozenset({0})
    ),
    "flapping source": World(burst(4), missing=flapping(0.5, ((590, 700),)), duration_s=2 * 3600, partitions=8),
    "slow store": World(burst(4), commit_s=5.0, duration_s=2 * 3600, partitions=8),
}
"""The scenarios that the traces assert and the benchmark prints."""
