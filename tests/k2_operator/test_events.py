from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from k2_operator.events import changes, event
from support.operator import plain_body


def written(phase: str, **reasons: tuple[str, str]) -> dict[str, Any]:
    found = [
        {"type": kind, "status": word, "reason": reason, "message": f"{kind} is {reason}"}
        for kind, (word, reason) in reasons.items()
    ]
    return {"phase": phase, "conditions": found}


def test_a_start_tells_its_phase_and_what_is_wrong() -> None:
    new = written("Pending", KafkaReady=("False", "Unreachable"), SinkReady=("False", "Missing"), Owned=("True", "Ok"))
    assert [(kind, reason) for kind, reason, _ in changes({}, new)] == [
        ("Normal", "Pending"),
        ("Warning", "Unreachable"),
    ]


def test_what_stays_is_told_once() -> None:
    one = written("Degraded", KafkaReady=("False", "Unreachable"))
    assert list(changes(one, one)) == []


def test_a_recovery_is_told() -> None:
    before = written("Degraded", KafkaReady=("False", "Unreachable"), Ready=("False", "Unreachable"))
    after = written("Running", KafkaReady=("True", "Answers"), Ready=("True", "Running"))
    assert [(kind, reason) for kind, reason, _ in changes(before, after)] == [
        ("Normal", "Running"),
        ("Normal", "Answers"),
    ]


def test_a_failure_is_a_warning() -> None:
    assert [kind for kind, _, _ in changes(written("Running"), written("Degraded"))] == ["Warning"]


def test_an_event_names_the_pipeline() -> None:
    found = event(plain_body("p"), "Warning", "Why", "text", datetime(2026, 1, 1, tzinfo=UTC))
    assert found["involvedObject"]["name"] == "p"
    assert found["metadata"]["name"].startswith("p.")
    assert (found["type"], found["reason"], found["message"]) == ("Warning", "Why", "text")


def test_another_engine_is_told_once() -> None:
    before, after = (written("Running") | {"query": {"engine": engine}} for engine in ("single", "distributed"))
    assert [reason for _, reason, _ in changes(before, after)] == ["EngineChanged"]
    assert list(changes(after, after)) == []
    assert list(changes(written("Running"), after)) == []
