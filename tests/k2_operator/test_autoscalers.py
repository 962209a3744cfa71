from __future__ import annotations

from typing import Any

from k2_operator.autoscalers import Autoscalers
from k2_operator.names import AUTOSCALER, SCALED_OBJECT
from k2_operator.store import place_of


def scaler(name: str, target: str, kind: str | None = "Deployment") -> dict[str, Any]:
    aim = {"name": target} | ({"kind": kind} if kind else {})
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"scaleTargetRef": aim}}


def test_targets() -> None:
    told: list[tuple[str, str]] = []
    found = Autoscalers(lambda namespace, name: told.append((namespace, name)))
    found.put(AUTOSCALER, scaler("h", "p-sink"))
    found.put(AUTOSCALER, scaler("h", "p-sink"))
    assert told == [("ns", "p-sink")]
    assert found.of("ns", "p-sink") == "HorizontalPodAutoscaler h"
    assert found.of("other", "p-sink") is None
    found.put(AUTOSCALER, scaler("h", "p-query"))
    assert found.of("ns", "p-sink") is None
    assert told[1:] == [("ns", "p-sink"), ("ns", "p-query")]
    assert found.standing(AUTOSCALER, None) == found.standing(AUTOSCALER, "ns")
    assert found.standing(AUTOSCALER, "other") == []
    found.drop(place_of(AUTOSCALER, scaler("h", "")), None)
    found.drop(place_of(AUTOSCALER, scaler("h", "")), None)
    assert found.of("ns", "p-query") is None


def test_a_scaled_objects_target_is_a_deployment_unless_it_says_otherwise() -> None:
    found = Autoscalers(lambda *_: None)
    found.put(SCALED_OBJECT, scaler("k", "p-sink", None))
    assert found.of("ns", "p-sink") == "ScaledObject k"
    found.put(SCALED_OBJECT, scaler("k", "p-sink", "StatefulSet"))
    assert found.of("ns", "p-sink") is None
