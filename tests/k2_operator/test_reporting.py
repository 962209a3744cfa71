from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from k2_operator.metrics import OperatorMetrics
from k2_operator.reporting import shown_conditions
from k2_operator.store import Key


def said(phase: str, **conditions: str) -> dict[str, Any]:
    return {"phase": phase, "conditions": [{"type": kind, "status": status} for kind, status in conditions.items()]}


def test_conditions_are_shown_as_they_are() -> None:
    found = shown_conditions(said("Degraded", Ready="False", KafkaReady="True", TopicsReady="Unknown"))
    assert found == {"Ready": False, "KafkaReady": True, "TopicsReady": None}


@pytest.mark.parametrize("phase", ["Suspending", "Suspended", "Deleting"])
def test_of_what_was_asked_to_stop_no_condition_is_shown(phase: str) -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    metrics.show_conditions(Key("ns", "p"), shown_conditions(said("Running", Ready="True", SinkReady="True")))
    metrics.show_conditions(Key("ns", "p"), shown_conditions(said(phase, Ready="False", SinkReady="False")))
    shown = [sample for family in registry.collect() for sample in family.samples if "condition" in sample.name]
    assert shown == []


def test_it_is_shown_again_when_it_is_to_run() -> None:
    assert shown_conditions(said("Pending", Ready="False")) == {"Ready": False}


def test_a_condition_that_a_pipeline_no_longer_has_is_shown_no_more() -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    metrics.show_conditions(Key("ns", "p"), shown_conditions(said("Running", Ready="True", TrinoReady="True")))
    metrics.show_conditions(Key("ns", "p"), shown_conditions(said("Running", Ready="True")))
    shown = [sample for family in registry.collect() for sample in family.samples if "condition" in sample.name]
    assert [sample.labels["type"] for sample in shown] == ["Ready"]
