from __future__ import annotations

from prometheus_client import CollectorRegistry

from k2_operator.metrics import OperatorMetrics
from k2_operator.store import Key

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
