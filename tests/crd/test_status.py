"""Status, columns and scale on the API server: what the operator writes is taken, what makes no sense is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from support.crd_api import SMALLEST, PipelineApi, patched

NOW: Final = "2026-11-21T11:00:00Z"
NAME: Final = "with-status"


def condition(kind: str = "Ready", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "reason": "AllReady",
        "message": "all is well",
        "lastTransitionTime": NOW,
        "observedGeneration": 1,
        **more,
    }


STATUS: Final[dict[str, Any]] = {
    "phase": "Running",
    "observedGeneration": 1,
    "conditions": [condition(), condition("KafkaReady", status="Unknown", reason="NotAsked")],
    "level": 0,
    "lag": {"unreadRecords": 12, "uncommittedRecords": 1_000},
    "freshness": {"committedAt": NOW, "committedAgeSeconds": 3.5, "newestEventTime": NOW},
    "decision": {
        "level": {"applied": 0, "recommended": 2, "why": "Forecast", "heldBy": ["ModeRecommend"], "since": NOW},
        "sinks": {"wanted": 3, "recommended": 4, "why": "DemandUp", "heldBy": [], "since": NOW},
        "missing": ["commit_duration_s"],
        "override": {"level": 3, "by": "anna", "until": NOW, "reason": "the store is moved"},
    },
    "replicas": {"ingest": 1, "sink": 2, "sinkWanted": 3, "query": 1},
    "query": {"url": "http://with-status-query.crd-tests"},
}


@pytest.fixture(scope="module", autouse=True)
def pipeline(api: PipelineApi) -> Iterator[None]:
    assert api.create(patched(SMALLEST, {"metadata": {"name": NAME}, "spec": {"sink": {"replicas": 3}}})).accepted
    yield
    api.delete(NAME)


def test_a_whole_status_is_taken_as_it_is(api: PipelineApi) -> None:
    answer = api.apply_status(NAME, STATUS)
    assert answer.accepted, answer.message
    assert answer.document["status"] == STATUS


def test_it_leaves_the_generation_alone(api: PipelineApi) -> None:
    answer = api.apply_status(NAME, {**STATUS, "level": 1})
    assert answer.document["metadata"]["generation"] == 1


def test_conditions_merge_by_their_type(api: PipelineApi) -> None:
    """Two writers, each with a condition of its own: neither removes the other's."""
    api.apply_status(NAME, {"conditions": [condition("Ready")]}, "k2-operator")
    answer = api.apply_status(NAME, {"conditions": [condition("Audited")]}, "somebody")
    assert {kind["type"] for kind in answer.document["status"]["conditions"]} >= {"Ready", "Audited"}


@pytest.mark.parametrize(
    ("status", "field"),
    [
        pytest.param({"phase": "Fine"}, "status.phase", id="phase"),
        pytest.param({"level": 5}, "status.level", id="level"),
        pytest.param({"lag": {"unreadRecords": -1}}, "status.lag.unreadRecords", id="negative-lag"),
        pytest.param({"conditions": [condition(), condition()]}, "conditions", id="two-of-one-type"),
        pytest.param({"conditions": [condition(status="Yes")]}, "status.conditions[0].status", id="condition-status"),
        pytest.param({"conditions": [condition(reason="two words")]}, "status.conditions[0].reason", id="reason"),
        pytest.param({"freshness": {"committedAt": "now"}}, "status.freshness.committedAt", id="time"),
        pytest.param({"decision": {"level": {"applied": 5}}}, "status.decision.level.applied", id="decided-level"),
        pytest.param({"decision": {"sinks": {"wanted": -1}}}, "status.decision.sinks.wanted", id="decided-sinks"),
        pytest.param({"queries": 1}, "status.queries", id="unknown"),
    ],
)
def test_what_is_refused(status: dict[str, Any], field: str, api: PipelineApi) -> None:
    answer = api.apply_status(NAME, status)
    assert not answer.accepted
    assert field in answer.message


def test_what_get_shows(api: PipelineApi) -> None:
    api.apply_status(NAME, STATUS)
    shown = api.table(NAME)
    assert shown["Name"] == NAME
    assert [shown[name] for name in ("Phase", "Level", "Lag", "Sinks", "Desired")] == ["Running", 0, 12, 2, 3]
    assert shown["Query"] == STATUS["query"]["url"]
    assert [shown[name] for name in ("Uncommitted", "Ingests", "Queries", "Ready", "Reason")] == [
        1_000,
        1,
        1,
        "True",
        "AllReady",
    ]
    # Ages, which kubectl counts on from.
    assert all(shown[name] not in {None, "", "<unknown>"} for name in ("Committed", "Newest", "Age"))


class TestScale:
    def test_it_changes_the_number_of_sinks(self, api: PipelineApi) -> None:
        answer = api.scale(NAME, 5)
        assert answer.document["spec"]["replicas"] == 5

    def test_within_the_bounds_of_the_spec(self, api: PipelineApi) -> None:
        answer = api.scale(NAME, 101)
        assert not answer.accepted
        assert "spec.sink.replicas" in answer.message

    def test_nothing_selects_pods_for_another_autoscaler(self, api: PipelineApi) -> None:
        assert "selector" not in api.scale(NAME, 5).document["status"]
