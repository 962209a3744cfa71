"""The operator's figures, `k2_operator_*`. A figure that is unknown is absent, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from k2_core.controller.figures import LOAD, WORDS, load, words
from k2_core.metrics import LATENCY_BUCKETS_S, Words
from k2_operator.decided import Decided
from k2_operator.names import TRINO_COORDINATOR, TRINO_WORKER
from k2_operator.store import Key
from k2_operator.workloads import Workload

_PIPELINE: Final = ("namespace", "pipeline")
_DECIDED: Final = {
    "level": "The level that services are told, a person's decision included, 0 to 4",
    "recommended_level": "The level that the rules say, 0 to 4",
    "wanted_sinks": "Sinks that are to run",
    "recommended_sinks": "Sinks that the rules say",
    "ready_sinks": "Sinks that read and say so",
    "deferred_records": "Records that sinks have read and owe to the table",
    "deferred_age_seconds": "Age in the log of the oldest of them, 0 without any",
    "outage_budget_seconds": "Until the log removes what is owed to the table",
    "retention_seconds": "How long the log keeps a record",
}
_TRINO: Final = {
    "trino_wanted_coordinators": "Coordinators that are to run of a Trino that the operator runs",
    "trino_ready_coordinators": "Those that are ready",
    "trino_wanted_workers": "Workers that are to run of a Trino that the operator runs",
    "trino_ready_workers": "Those that are ready",
}
_ROLES: Final = {TRINO_COORDINATOR: "coordinators", TRINO_WORKER: "workers"}


class OperatorMetrics:
    """All metrics of one operator.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "k2_operator_reconcile_duration_seconds",
            "From the wake-up of a pipeline to the end of its reconcile",
            registry=registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self.reconciles = Counter("k2_operator_reconciles", "Reconciles by outcome", ("outcome",), registry=registry)
        self.requests = Counter(
            "k2_operator_api_requests", "Requests to the API server", ("verb", "code"), registry=registry
        )
        self.watch_age = Gauge(
            "k2_operator_watch_age_seconds", "Since the oldest watch last gave a sign of life", registry=registry
        )
        self.pipelines = Gauge("k2_operator_pipelines", "Pipelines by phase", ("phase",), registry=registry)
        self.unread = Gauge(
            "k2_operator_pipeline_unread_lag_records", "Records that no sink has read", _PIPELINE, registry=registry
        )
        self.uncommitted = Gauge(
            "k2_operator_pipeline_uncommitted_lag_records", "Records not in the table", _PIPELINE, registry=registry
        )
        self.committed_age = Gauge(
            "k2_operator_pipeline_committed_age_seconds", "Since the last commit", _PIPELINE, registry=registry
        )
        self.condition = Gauge(
            "k2_operator_pipeline_condition",
            "1 if the condition is True, 0 if False, absent if unknown",
            (*_PIPELINE, "type"),
            registry=registry,
        )
        self._decided = {
            name: Gauge(f"k2_operator_pipeline_{name}", text, _PIPELINE, registry=registry)
            for name, text in {**_DECIDED, **LOAD}.items()
        }
        self._words = Words(
            {
                name: Gauge(f"k2_operator_pipeline_{name}", text, (*_PIPELINE, "of", "word"), registry=registry)
                for name, text in WORDS.items()
            }
        )
        self._trino = {
            name: Gauge(f"k2_operator_pipeline_{name}", text, _PIPELINE, registry=registry)
            for name, text in _TRINO.items()
        }
        self._phases: dict[Key, str] = {}
        self._conditions: dict[Key, set[str]] = {}

    def show_phase(self, key: Key, phase: str) -> None:
        """Count a pipeline under its phase."""
        if self._phases.get(key) != phase:
            self._uncount(key)
            self._phases[key] = phase
            self.pipelines.labels(phase).inc()

    def show_conditions(self, key: Key, conditions: dict[str, bool | None]) -> None:
        """Show a pipeline's conditions; None is unknown, and one that it no longer has is shown no more."""
        known = {kind: value for kind, value in conditions.items() if value is not None}
        for kind in self._conditions.get(key, set()) - known.keys():
            self.condition.remove(*key, kind)
        for kind, value in known.items():
            self.condition.labels(*key, kind).set(float(value))
        self._conditions[key] = set(known)

    def show(self, gauge: Gauge, key: Key, value: float | None) -> None:
        """Show a figure of a pipeline, or take it away."""
        if value is not None:
            gauge.labels(*key).set(value)
        else:
            gauge.remove(*key)

    def show_decided(self, key: Key, decided: Decided | None) -> None:
        """Show what a pipeline's controller decided and saw; None takes all of it away."""
        decision = None if decided is None else decided.decision
        figures: dict[str, float | None] = {}
        if decided is not None and decision is not None:
            figures = {
                "level": decided.level,
                "recommended_level": decision.level.recommended,
                "wanted_sinks": decided.sinks,
                "recommended_sinks": decision.replicas.step.recommended,
            }
        if decided is not None and decision is not None and decided.seen:
            figures |= {
                "ready_sinks": decision.observation.ready_replicas,
                "deferred_records": decision.observation.deferred_records,
                "deferred_age_seconds": decision.observation.oldest_deferred_age_s,
                "outage_budget_seconds": decision.outage_budget_s,
                "retention_seconds": decision.retention_s,
                **load(decision),
            }
        self._words.show({} if decision is None else words(decision), *key)
        for name, gauge in self._decided.items():
            self.show(gauge, key, figures.get(name))

    def show_trino(self, key: Key, workloads: Sequence[Workload]) -> None:
        """Show the nodes of a Trino that the operator runs; nothing where there is none."""
        figures: dict[str, float | None] = {}
        for one in workloads:
            if (role := _ROLES.get(one.component)) is not None:
                figures |= {f"trino_wanted_{role}": one.wanted, f"trino_ready_{role}": one.ready}
        for name, gauge in self._trino.items():
            self.show(gauge, key, figures.get(name))

    def forget(self, key: Key) -> None:
        """Take away everything of a pipeline that is gone."""
        self._uncount(key)
        self._phases.pop(key, None)
        for kind in self._conditions.pop(key, set()):
            self.condition.remove(*key, kind)
        for gauge in (self.unread, self.uncommitted, self.committed_age):
            self.show(gauge, key, None)
        self.show_decided(key, None)
        self.show_trino(key, ())

    def _uncount(self, key: Key) -> None:
        if (phase := self._phases.get(key)) is not None:
            self.pipelines.labels(phase).dec()
