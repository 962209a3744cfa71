from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry

from k2_core.policy.thresholds import Mode
from k2_operator.decided import Decided, taken
from k2_operator.metrics import OperatorMetrics
from k2_operator.store import Key
from k2_operator.workloads import Workload
from support.decided_by import CALM, config, decision, tick

A, B = Key("ns", "a"), Key("ns", "b")


def test_pipelines_are_counted_under_their_phase() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    metrics.show_phase(A, "Pending")
    metrics.show_phase(B, "Running")
    metrics.show_phase(A, "Running")
    assert registry.get_sample_value("k2_operator_pipelines", {"phase": "Running"}) == 2
    assert registry.get_sample_value("k2_operator_pipelines", {"phase": "Pending"}) == 0
    metrics.forget(A)
    metrics.forget(A)
    assert registry.get_sample_value("k2_operator_pipelines", {"phase": "Running"}) == 1


def test_what_is_unknown_is_absent() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    labels = {"namespace": "ns", "pipeline": "a", "type": "KafkaReady"}
    metrics.show_conditions(A, {"KafkaReady": None, "Ready": False})
    assert registry.get_sample_value("k2_operator_pipeline_condition", labels) is None
    metrics.show_conditions(A, {"KafkaReady": True})
    assert registry.get_sample_value("k2_operator_pipeline_condition", labels) == 1
    metrics.show_conditions(A, {"KafkaReady": None})
    assert registry.get_sample_value("k2_operator_pipeline_condition", labels) is None
    lag = {"namespace": "ns", "pipeline": "a"}
    metrics.show(metrics.unread, A, 5)
    assert registry.get_sample_value("k2_operator_pipeline_unread_lag_records", lag) == 5
    metrics.forget(A)
    assert registry.get_sample_value("k2_operator_pipeline_unread_lag_records", lag) is None
    assert registry.get_sample_value("k2_operator_pipeline_condition", labels | {"type": "Ready"}) is None


def test_what_is_decided_is_shown_until_nothing_is() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    labels = {"namespace": "ns", "pipeline": "a"}

    def shown() -> dict[str, float | None]:
        names = ["level", "recommended_level", "wanted_sinks", "recommended_sinks", "deferred_records"]
        names += ["ready_sinks", "deferred_age_seconds", "outage_budget_seconds", "retention_seconds"]
        return {name: registry.get_sample_value(f"k2_operator_pipeline_{name}", labels) for name in names}

    seen = replace(
        CALM, unread_records=20_000, deferred_records=7, oldest_deferred_age_s=30, oldest_uncommitted_age_s=400
    )
    metrics.show_decided(A, taken(Decided(), tick(decision(seen, config(Mode.RECOMMEND, Mode.RECOMMEND))), told=True))
    found = shown()
    assert found.pop("recommended_sinks", 0) != 2
    assert found == {
        "level": 0,
        "recommended_level": 2,
        "wanted_sinks": 2,
        "ready_sinks": 2,
        "deferred_records": 7,
        "deferred_age_seconds": 30,
        "outage_budget_seconds": 600,
        "retention_seconds": 1000,
    }
    away = replace(taken(Decided(), tick(decision(seen)), told=True), seen=False)
    metrics.show_decided(A, away)
    assert {name for name, value in shown().items() if value is None} == {
        "ready_sinks",
        "deferred_records",
        "deferred_age_seconds",
        "outage_budget_seconds",
        "retention_seconds",
    }
    unknown = replace(CALM, retention_s=None, oldest_uncommitted_age_s=None)
    metrics.show_decided(A, taken(Decided(), tick(decision(unknown)), told=True))
    assert [shown()[name] for name in ("outage_budget_seconds", "retention_seconds")] == [None, None]
    metrics.show_decided(B, taken(Decided(), tick(decision()), told=True))
    metrics.forget(A)
    assert set(shown().values()) == {None}
    assert registry.get_sample_value("k2_operator_pipeline_level", labels | {"pipeline": "b"}) == 0


def test_why_and_what_holds_it_is_shown_until_something_else_does() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    of_a, of_b = ({"namespace": "ns", "pipeline": name} for name in "ab")

    def words(name: str, labels: dict[str, str]) -> set[tuple[str, str]]:
        """Return what a set says of a pipeline."""
        samples = [one for family in registry.collect() for one in family.samples]
        mine = [one.labels for one in samples if one.name == f"k2_operator_pipeline_{name}" and one.value == 1]
        return {(one["of"], one["word"]) for one in mine if labels.items() <= one.items()}

    unknown = replace(CALM, memory_ratio=None)
    for key in (A, B):
        metrics.show_decided(key, taken(Decided(), tick(decision(unknown)), told=True))
    assert ("level", "MetricsMissing") in words("held", of_a)
    assert words("missing", of_a) == {("figures", "memory_ratio")}
    assert registry.get_sample_value("k2_operator_pipeline_memory_ratio", of_a) is None
    metrics.show_decided(A, taken(Decided(), tick(decision()), told=True))
    assert ("level", "MetricsMissing") not in words("held", of_a)
    assert words("missing", of_a) == set()
    assert {of for of, _ in words("why", of_a)} == {"level", "sinks"}
    assert registry.get_sample_value("k2_operator_pipeline_memory_ratio", of_a) == CALM.memory_ratio
    assert registry.get_sample_value("k2_operator_pipeline_offered_records_per_second", of_a) == CALM.offered_per_s
    metrics.forget(A)
    assert words("why", of_a) == set()
    assert words("missing", of_b) == {("figures", "memory_ratio")}


def test_the_nodes_of_a_trino_are_shown_while_there_is_one() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    labels = {"namespace": "ns", "pipeline": "a"}

    def shown() -> dict[str, float | None]:
        names = ("wanted_coordinators", "ready_coordinators", "wanted_workers", "ready_workers")
        return {name: registry.get_sample_value(f"k2_operator_pipeline_trino_{name}", labels) for name in names}

    def part(component: str, wanted: int, ready: int) -> Workload:
        return Workload(component, component, wanted, ready, settled=True, gone=False, trouble=None)

    metrics.show_trino(A, [part("query", 7, 7), part("trino-coordinator", 1, 0), part("trino-worker", 3, 2)])
    assert shown() == {"wanted_coordinators": 1, "ready_coordinators": 0, "wanted_workers": 3, "ready_workers": 2}
    metrics.show_trino(A, [part("query", 7, 7)])
    assert set(shown().values()) == {None}
    metrics.show_trino(A, [part("trino-worker", 3, 2)])
    metrics.forget(A)
    assert set(shown().values()) == {None}
