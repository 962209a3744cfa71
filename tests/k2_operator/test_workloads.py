from __future__ import annotations

from typing import Any

import pytest

from k2_operator.store import Place
from k2_operator.workloads import Workload, workload

DEPLOYMENT = Place("Deployment", "ns", "p-sink")


def deployment(wanted: int = 1, ready: int = 1, **more: int) -> dict[str, Any]:
    status = {"observedGeneration": 2, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, **more}
    return {"metadata": {"name": "p-sink", "generation": 2}, "spec": {"replicas": wanted}, "status": status}


def pod(name: str = "p-sink-1", component: str = "sink", **status: object) -> tuple[Place, dict[str, Any]]:
    labels = {"app.kubernetes.io/component": component}
    return Place("Pod", "ns", name), {"metadata": {"name": name, "labels": labels}, "status": status}


def fares(*standing: tuple[Place, dict[str, Any]]) -> Workload:
    return workload("p-sink", "sink", None, standing)


def test_without_a_deployment() -> None:
    found = fares(pod("p-query-1", "query"))
    assert (found.wanted, found.ready, found.gone, found.is_ready) == (0, 0, True, False)
    assert found.trouble is not None
    assert found.trouble.reason == "Missing"
    assert not fares(pod()).gone


def test_ready() -> None:
    found = fares((DEPLOYMENT, deployment()), pod())
    assert found.is_ready
    assert found.trouble is None
    assert not found.gone


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"observedGeneration": 1}, id="not seen yet"),
        pytest.param({"updatedReplicas": 0}, id="pods of an older version"),
        pytest.param({"replicas": 2}, id="an old pod beside"),
        pytest.param({"ready": 0}, id="not ready"),
    ],
)
def test_not_ready(status: dict[str, int]) -> None:
    found = fares((DEPLOYMENT, deployment(**status)))
    assert not found.is_ready
    assert found.trouble is not None
    assert found.trouble.reason == "Starting"


def test_gone_means_that_no_pod_is_left() -> None:
    stopped = (DEPLOYMENT, deployment(wanted=0, ready=0))
    assert fares(stopped).gone
    assert not fares(stopped, pod()).gone
    assert not fares((DEPLOYMENT, deployment(wanted=0, ready=0, observedGeneration=1))).gone


def waiting(reason: str, message: str = "m") -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


def ended(code: int, message: str = "", reason: str = "Error", **more: object) -> dict[str, Any]:
    terminated = {"exitCode": code, "message": message, "reason": reason}
    return {"containerStatuses": [{"state": {"waiting": {}}, "lastState": {"terminated": terminated}, **more}]}


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        pytest.param(waiting("ImagePullBackOff"), "ImagePull", "pull secrets", id="image"),
        pytest.param(waiting("CreateContainerConfigError"), "PodConfig", "secrets", id="container config"),
        pytest.param(ended(3, "k2-sink: no Kafka", restartCount=4), "CrashLoop", "no Kafka", id="crash"),
        pytest.param(ended(5, "run k2 adopt"), "NeedsDecision", "run k2 adopt", id="needs a person"),
        pytest.param(ended(2, "spec.sink: found 1"), "WrongSettings", "spec.sink", id="settings"),
        pytest.param(ended(137, reason="OOMKilled"), "OutOfMemory", "limits.memory", id="memory"),
        pytest.param(ended(1, "x" * 900), "CrashLoop", "...", id="a long message"),
        pytest.param(
            {"conditions": [{"reason": "Unschedulable", "message": "no node"}]}, "Unschedulable", "no node", id="nodes"
        ),
    ],
)
def test_reasons(status: dict[str, Any], reason: str, text: str) -> None:
    trouble = fares((DEPLOYMENT, deployment(ready=0)), pod(**status)).trouble
    assert trouble is not None
    assert trouble.reason == reason
    assert text in trouble.message
    assert len(trouble.message) < 700


def test_a_pod_that_goes_or_runs_again_tells_nothing() -> None:
    place, going = pod(**waiting("ImagePullBackOff"))
    going["metadata"]["deletionTimestamp"] = "now"
    again = ended(3, "old")
    again["containerStatuses"][0]["state"] = {"running": {}}
    trouble = fares((DEPLOYMENT, deployment(ready=0)), (place, going), pod("p-sink-2", **again)).trouble
    assert trouble is not None
    assert trouble.reason == "Starting"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"replicas": 3, "updatedReplicas": 3}, False, id="scaled up"),
        pytest.param({"replicas": 1, "updatedReplicas": 1}, False, id="scaling up"),
        pytest.param({"replicas": 5, "updatedReplicas": 5}, False, id="scaling down"),
        pytest.param({"replicas": 4, "updatedReplicas": 1}, True, id="a new version"),
    ],
)
def test_a_roll_out_is_told_from_scaling(status: dict[str, int], expected: bool) -> None:
    assert fares((DEPLOYMENT, deployment(3, **status))).replacing is expected


def test_a_container_that_only_prepares_is_told_of_while_it_fails() -> None:
    def trouble(code: int) -> str:
        prepared = [{"state": {"terminated": {"exitCode": code, "message": "no catalog"}}}]
        found = fares((DEPLOYMENT, deployment(ready=0)), pod(initContainerStatuses=prepared)).trouble
        assert found is not None
        return found.reason

    assert (trouble(2), trouble(0)) == ("WrongSettings", "Starting")
