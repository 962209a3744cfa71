from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from k2_core.engine_report import EngineWord
from k2_core.spec import KafkaSpec
from k2_operator.engine import Engines, Sight, engines, seen, verdict
from k2_operator.signals import Answer, Log, Question, Secrets
from k2_operator.store import Place
from k2_operator.workloads import Workload

URL = "https://crypto-trino.markets.svc:8443"
DUCKDB = Engines(trino_stays=True, trino_answers=False)
"""Until Trino is ready, and until the query service has left it."""
TRINO = Engines(trino_stays=True, trino_answers=True)
NO_TRINO = Engines(trino_stays=False, trino_answers=False)


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        pytest.param(Sight(asked=True, answers=False, ready=False, rolled=True), DUCKDB, id="asked for"),
        pytest.param(Sight(asked=True, answers=False, ready=True, rolled=True), TRINO, id="ready"),
        pytest.param(Sight(asked=True, answers=True, ready=True, rolled=False), TRINO, id="rolling"),
        pytest.param(Sight(asked=True, answers=True, ready=False, rolled=True), TRINO, id="away"),
        pytest.param(Sight(asked=False, answers=True, ready=True, rolled=True), DUCKDB, id="no longer asked for"),
        pytest.param(Sight(asked=False, answers=False, ready=True, rolled=False), DUCKDB, id="rolling back"),
        pytest.param(Sight(asked=False, answers=False, ready=True, rolled=True), NO_TRINO, id="rolled back"),
        pytest.param(Sight(asked=True, answers=False, ready=True, rolled=False), TRINO, id="asked for anew meanwhile"),
    ],
)
def test_the_old_engine_answers_until_the_new_one_can(sight: Sight, expected: Engines) -> None:
    assert engines(sight) == expected


@pytest.mark.parametrize("facts", list(product([True, False], repeat=4)), ids=str)
def test_a_trino_never_goes_while_somebody_may_ask_it_and_is_not_asked_before_it_can_answer(
    facts: tuple[bool, bool, bool, bool],
) -> None:
    sight = Sight(*facts)
    found = engines(sight)
    if not found.trino_stays:
        assert not sight.answers
        assert not sight.asked
        assert sight.rolled
    if found.trino_answers:
        assert sight.asked
        assert sight.answers or sight.ready
    assert found.trino_stays >= found.trino_answers


def workload(component: str, ready: int = 1, *, settled: bool = True, wanted: int = 1) -> Workload:
    gone = wanted == ready == 0
    return Workload(component, f"crypto-{component}", wanted, ready, settled=settled, gone=gone, trouble=None)


def query(url: str | None) -> tuple[Place, dict[str, Any]]:
    environment = [] if url is None else [{"name": "K2_TRINO_URL", "value": url}]
    pod = {"spec": {"containers": [{"name": "query", "env": environment}]}}
    metadata = {"labels": {"app.kubernetes.io/component": "query"}}
    return Place("Deployment", "markets", "crypto-query"), {"metadata": metadata, "spec": {"template": pod}}


def ending(component: str, **more: str) -> tuple[Place, dict[str, Any]]:
    metadata = {"labels": {"app.kubernetes.io/component": component}, **more}
    return Place("Pod", "markets", f"crypto-{component}-1"), {"metadata": metadata}


READY = [workload("query"), workload("trino-coordinator"), workload("trino-worker", ready=1, wanted=3)]
DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("fares", "children", "expected"),
    [
        pytest.param(READY, [query(None)], (False, True, True), id="ready with one worker of three"),
        pytest.param(READY, [query(URL)], (True, True, True), id="answers"),
        pytest.param(READY, [query("https://trino:8443")], (False, True, True), id="another Trino answers"),
        pytest.param([workload("query"), workload("trino-worker")], [query(None)], (False, False, True), id="no head"),
        pytest.param(
            [*READY[:2], workload("trino-worker", ready=0)], [query(None)], (False, False, True), id="no worker"
        ),
        pytest.param([workload("query", settled=False)], [query(None)], (False, False, False), id="rolling"),
        pytest.param([workload("query", ready=0)], [query(None)], (False, False, False), id="not ready"),
        pytest.param([workload("query", ready=0, wanted=0)], [query(None)], (False, False, True), id="suspended"),
        pytest.param(READY, [query(None), ending("query", **DELETED)], (False, True, False), id="a pod that ends"),
        pytest.param(READY, [query(None), ending("query")], (False, True, True), id="a pod"),
        pytest.param(READY, [query(None), ending("sink", **DELETED)], (False, True, True), id="a sink that ends"),
        pytest.param([], [], (False, False, True), id="nothing yet"),
    ],
)
def test_what_is_seen(
    fares: Sequence[Workload], children: list[tuple[Place, dict[str, Any]]], expected: tuple[bool, bool, bool]
) -> None:
    found = seen(URL, fares, children, asked=True)
    assert (found.answers, found.ready, found.rolled) == expected


QUESTION = Question(
    "ns", KafkaSpec(bootstrap_servers="k:1"), (), {}, "read", "committed", {}, engine_group="k2.x.engine"
)
WRONG = EngineWord(answers=False, reason="Refused", message="1 of 2 query pods: found the credentials refused")


def told(word: EngineWord | None) -> Answer:
    return Answer(QUESTION, 0.0, Secrets(), {}, Log(engine=word))


def test_what_query_pods_say_is_the_verdict() -> None:
    assert verdict(told(EngineWord(answers=True)), stopping=False) == (True, "Answers", "")
    assert verdict(told(WRONG), stopping=False) == (False, "Refused", WRONG.message)


@pytest.mark.parametrize("answer", [None, told(None), Answer(QUESTION, 0.0, Secrets(), kafka_problem="away")], ids=str)
def test_what_nobody_says_is_unknown_and_not_wrong(answer: Answer | None) -> None:
    status, reason, message = verdict(answer, stopping=False)
    assert (status, reason) == (None, "NotYetKnown")
    assert "for 30 s no query pod has said whether it answers" in message
    assert answer is None or "write the group k2.x.engine, the operator's to read it" in message


def test_of_what_stops_nothing_is_claimed() -> None:
    assert verdict(told(WRONG), stopping=True)[:2] == (None, "Stopped")
