from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from k2_core.types import TopicId, TopicName
from k2_operator.names import FINALIZER, RENDERED_HASH
from k2_operator.pipeline import effective
from k2_operator.removal import (
    NOTHING_SEEN,
    TABLES,
    TOPICS,
    Children,
    Claims,
    Neighbour,
    Seen,
    claimed,
    conditions,
    has_begun,
    is_stale,
    maintains,
    topics_due,
)
from k2_operator.resource import Resource
from k2_operator.signals import Answer, Question, Secrets
from k2_operator.situation import question_for, standing_of, workloads_of
from k2_operator.status import Refusal
from k2_operator.store import Key, Place
from support.operator import operator_config, plain_body

TRADES, LETTERS = TopicName("market.crypto.trades.binance"), TopicName("market.crypto.trades.binance.dlq")
IDS = {TRADES: TopicId("one"), LETTERS: TopicId("two")}
OTHER = Key("default", "other")


def resource(*said: tuple[str, str], policy: str = "Delete", deleting: bool = True) -> Resource:
    """A pipeline whose status says of conditions what it does."""
    found = [{"type": kind, "status": status, "reason": "Before", "message": "said"} for kind, status in said]
    body = plain_body(deletionPolicy=policy) | {"status": {"phase": "Deleting", "conditions": found}}
    body["metadata"] |= {"resourceVersion": "1", "finalizers": [FINALIZER]}
    if deleting:
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Resource.of(body)


def answer(**more: Any) -> Answer:
    found = effective(plain_body(), operator_config())
    asked = question_for(found, resource(), [])
    return replace(Answer(asked, 0.0, Secrets(), partitions=dict.fromkeys(IDS, 1), ids=IDS), **more)


def pod(component: str = "removal", **status: object) -> tuple[Place, dict[str, Any]]:
    labels = {"app.kubernetes.io/component": component}
    return Place("Pod", "default", "crypto-removal-x"), {"metadata": {"name": "x", "labels": labels}, "status": status}


def ended(code: int, message: str) -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"terminated": {"exitCode": code, "message": message}}}]}


def job(condition: str | None = None, digest: str = "a") -> dict[str, Any]:
    said = [] if condition is None else [{"type": condition, "status": "True"}]
    return {"metadata": {"annotations": {RENDERED_HASH: digest}}, "status": {"conditions": said}}


class TestWhoseTopics:
    def test_without_a_look_none(self) -> None:
        assert claimed(None, []) == Claims()

    def test_alone_all_that_are_there(self) -> None:
        assert claimed(answer(), []) == Claims((TRADES, LETTERS))
        assert claimed(answer(ids={}), []) == Claims()

    @pytest.mark.parametrize(
        ("topics", "theirs", "expected"),
        [
            pytest.param({TRADES}, answer(), Claims((LETTERS,), {TRADES: OTHER}), id="one that both have"),
            pytest.param({}, answer(), Claims((TRADES, LETTERS)), id="other topics"),
            pytest.param({TRADES}, answer(ids={TRADES: TopicId("x")}), Claims((TRADES, LETTERS)), id="another Kafka"),
            pytest.param({TRADES}, answer(ids={}), Claims((TRADES, LETTERS)), id="not there yet"),
            pytest.param({TRADES}, None, Claims((LETTERS,), {}, {TRADES: OTHER}), id="not looked at yet"),
            pytest.param(
                {TRADES}, answer(partitions=None, ids={}), Claims((LETTERS,), {}, {TRADES: OTHER}), id="no answer"
            ),
            pytest.param(None, None, Claims((), dict.fromkeys(IDS, OTHER)), id="a spec that is wrong"),
        ],
    )
    def test_what_another_pipeline_may_have_stays(
        self, topics: set[TopicName] | None, theirs: Answer | None, expected: Claims
    ) -> None:
        assert claimed(answer(), [Neighbour(OTHER, topics, theirs)]) == expected


class TestHasBegun:
    @pytest.mark.parametrize(
        ("who", "children", "its"),
        [
            pytest.param(resource(), [], job(), id="a Job"),
            pytest.param(resource(), [pod()], None, id="its account, or its pod"),
            pytest.param(resource((TABLES, "False")), [], None, id="the status"),
            pytest.param(resource((TABLES, "True"), policy="Retain"), [], None, id="another policy since"),
        ],
    )
    def test_by_any_trace(self, who: Resource, children: Children, its: dict[str, Any] | None) -> None:
        assert has_begun(who, children, its)
        fares = workloads_of(None, children)
        assert standing_of(who, children, fares, drained=None, job=its).removing

    def test_not_before(self) -> None:
        assert not has_begun(resource(), [pod("sink")], None)
        assert not has_begun(resource((TABLES, "True"), deleting=False), [pod()], job())


def test_maintenance_is_what_is_planned_and_what_runs() -> None:
    cron: tuple[Place, dict[str, Any]] = (Place("CronJob", "default", "crypto-maintenance"), {"metadata": {}})
    assert maintains([cron, pod("maintenance"), pod("sink")]) == [cron[0], pod()[0]]
    assert not standing_of(resource(), [cron], [], drained=True).maintenance_gone


def test_topics_come_when_the_status_says_that_tables_are_gone() -> None:
    assert topics_due(resource((TABLES, "True")))
    assert not topics_due(resource((TABLES, "False")))
    assert not topics_due(resource((TABLES, "True"), policy="Retain"))
    assert not topics_due(resource((TABLES, "True"), deleting=False))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (job(), False),
        (job(digest="b"), True),
        (job("Failed"), True),
        (job("Complete"), False),
        (job("Complete", "b"), False),
    ],
    ids=["as it should be", "another", "failed", "done", "done by another"],
)
def test_a_job_makes_way_for_another(there: dict[str, Any], expected: bool) -> None:
    assert is_stale(there, job()) is expected


def told(
    who: Resource, seen: Seen, children: Children = (), refusals: tuple[Refusal, ...] = (), problem: str | None = None
) -> list[tuple[str, bool | None, str, str]]:
    found = conditions(who, seen, children, refusals, problem)
    return [(one.type, one.status, one.reason, one.message) for one in found]


class TestTables:
    def test_on_the_way(self) -> None:
        found = [(kind, status, reason) for kind, status, reason, _ in told(resource(), Seen(job()))]
        assert found == [(TABLES, False, "Removing"), (TOPICS, False, "Removing")]

    def test_done_with_what_the_job_said_last(self) -> None:
        line = "3 tables dropped and 9 files deleted; left what is not this pipeline's: market.notes (of nobody)"
        assert told(resource(), Seen(job("Complete")), [pod(**ended(0, line))]) == [(TABLES, True, "Removed", line)]
        [(_, status, _, message), topics] = told(resource((TABLES, "False"), (TOPICS, "False")), Seen(job("Complete")))
        assert topics == (TOPICS, False, "Before", "said")
        assert (status, message) == (True, "its tables and their files are gone")

    @pytest.mark.parametrize(
        ("seen", "children", "refusals", "problem", "reason", "says"),
        [
            pytest.param(Seen(), [], (), "spec.storage: found none", "InvalidSpec", "correct the pipeline", id="spec"),
            pytest.param(Seen(problem="may not"), [], (), None, "ApiRefused", "correct the operator's role", id="role"),
            pytest.param(Seen(), [], (Refusal("NameTaken", "is there"),), None, "NameTaken", "is there", id="taken"),
            pytest.param(Seen(), [pod("maintenance")], (), None, "MaintenanceRuns", "it waits", id="maintenance"),
            pytest.param(
                Seen(job()), [pod(**ended(3, "no catalog"))], (), None, "CrashLoop", "no catalog", id="a failure"
            ),
            pytest.param(
                Seen(job()), [pod(**ended(5, "a guest"))], (), None, "NeedsDecision", "a guest", id="a decision"
            ),
        ],
    )
    def test_what_keeps_them_from_going(
        self,
        seen: Seen,
        children: Children,
        refusals: tuple[Refusal, ...],
        problem: str | None,
        reason: str,
        says: str,
    ) -> None:
        (kind, status, found, message), _ = told(resource(), seen, children, refusals, problem)
        assert (kind, status, found) == (TABLES, False, reason)
        assert says in message
        assert reason == "MaintenanceRuns" or "spec.deletionPolicy: Retain lets the pipeline go without" in message


class TestTopics:
    @pytest.mark.parametrize(
        ("seen", "problem", "status", "reason", "says"),
        [
            pytest.param(NOTHING_SEEN, None, False, "Removing", "a look at Kafka", id="no look yet"),
            pytest.param(NOTHING_SEEN, "spec.kafka: none", False, "InvalidSpec", "correct the pipeline", id="spec"),
            pytest.param(
                Seen(claims=Claims(), answer=answer(kafka_problem="away")),
                None,
                False,
                "Unreachable",
                "away",
                id="away",
            ),
            pytest.param(
                Seen(claims=Claims((TRADES,)), answer=answer()), None, False, "Removing", TRADES, id="on their way"
            ),
            pytest.param(
                Seen(claims=Claims((TRADES,)), answer=answer(topics_problem="denied")),
                None,
                False,
                "Refused",
                "denied; let K2's user delete topics",
                id="refused",
            ),
            pytest.param(
                Seen(claims=Claims((), {}, {TRADES: OTHER}), answer=answer()),
                None,
                False,
                "NotYetKnown",
                f"{TRADES} (default/other)",
                id="another may have it",
            ),
            pytest.param(
                Seen(claims=Claims((), {TRADES: OTHER}), answer=answer()),
                None,
                True,
                "Removed",
                f"left, as another pipeline has them: {TRADES} (default/other)",
                id="another has it",
            ),
            pytest.param(
                Seen(claims=Claims(), answer=answer(ids={})), None, True, "Removed", "its topics are gone", id="gone"
            ),
        ],
    )
    def test_what_is_said(self, seen: Seen, problem: str | None, status: bool, reason: str, says: str) -> None:
        before, (kind, found, why, message) = told(resource((TABLES, "True")), seen, problem=problem)
        assert before == (TABLES, True, "Before", "said")
        assert (kind, found, why) == (TOPICS, status, reason)
        assert says in message

    def test_what_is_done_stays_said(self) -> None:
        done = resource((TABLES, "True"), (TOPICS, "True"))
        both = [(TABLES, True, "Before", "said"), (TOPICS, True, "Before", "said")]
        assert told(done, NOTHING_SEEN) == both
        kept = resource((TABLES, "False"), policy="Retain")
        assert told(kept, NOTHING_SEEN) == [(TABLES, False, "Before", "said")]


def test_what_is_removed_is_part_of_the_question() -> None:
    found = effective(plain_body(), operator_config())
    asked: Question = question_for(found, resource(), [], [TRADES])
    assert (asked.remove, asked.create) == ((TRADES,), False)
