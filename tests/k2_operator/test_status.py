from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from k2_core.control import Override
from k2_core.engine_report import EngineWord
from k2_core.spec import KafkaSpec
from k2_core.symbols_report import UNKNOWN, SymbolsWord
from k2_core.types import Level, Offset, Partition, TopicName
from k2_operator.decided import Decided, taken
from k2_operator.plan import Step
from k2_operator.signals import Answer, Log, Question, Secrets
from k2_operator.status import (
    Condition,
    Refusal,
    View,
    age_step,
    conditions,
    rounded,
    status,
    worth_writing,
)
from k2_operator.store import Key
from k2_operator.workloads import Trouble, Workload
from support.decided_by import CALM, decision, tick

T = TopicName("t")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUESTION = Question("ns", KafkaSpec(bootstrap_servers="k:1"), (T,), {T: 4}, "read", "committed", {})
AT = (T, Partition(0))
LOG = Log({AT: Offset(0)}, {AT: Offset(1234)}, {AT: Offset(1200)}, {AT: Offset(0)}, NOW - timedelta(seconds=25), NOW)
ANSWER = Answer(QUESTION, 0.0, Secrets(), {T: 4}, LOG)


def part(component: str, **more: Any) -> Workload:
    given = {"wanted": 1, "ready": 1, "settled": True, "gone": False, "trouble": None, **more}
    return Workload(component, f"p-{component}", **given)


VIEW = View(
    key=Key("ns", "p"),
    generation=3,
    previous={},
    deleting=False,
    suspend=False,
    config_problem=None,
    inactive=(),
    answer=ANSWER,
    step=Step.RUN,
    workloads=(part("ingest"), part("sink", ready=2, wanted=2), part("query")),
)
GONE = tuple(part(name, wanted=0, ready=0, gone=True) for name in ("ingest", "sink", "query"))
ENDING = tuple(part(name, wanted=0, ready=0) for name in ("ingest", "sink", "query"))


def condition(view: View, kind: str) -> Condition:
    return next(one for one in conditions(view) if one.type == kind)


def answered(**more: Any) -> View:
    return replace(VIEW, answer=replace(ANSWER, **more))


def owing(records: int | None) -> View:
    """Everything is read and committed, and some of it was only entered in the ledger."""
    log = ANSWER.log
    assert log is not None
    return answered(log=replace(log, committed=log.ends, owed=records))


def test_a_running_pipeline() -> None:
    found = status(VIEW, NOW)
    assert found["phase"] == "Running"
    assert found["observedGeneration"] == 3
    assert found["replicas"] == {"ingest": 1, "sink": 2, "sinkWanted": 2, "query": 1}
    assert {"level", "decision"}.isdisjoint(found)
    assert found["lag"] == {"unreadRecords": 34, "uncommittedRecords": 1200}
    assert found["freshness"]["committedAgeSeconds"] == 20
    assert found["freshness"]["newestEventTime"] == "2026-01-01T00:00:00Z"
    assert found["query"] == {"url": "http://p-query.ns.svc:80"}
    assert [one["status"] for one in found["conditions"]] == ["True"] * 10


NODES = (part("trino-coordinator"), part("trino-worker", ready=2, wanted=2))
STARTING = Trouble("Starting", "0 of 1")
WITH_TRINO = replace(VIEW, workloads=(*VIEW.workloads, *NODES), engine="distributed", asks_for_trino=True)
TRINO_STARTS = replace(
    WITH_TRINO,
    engine="single",
    workloads=(*VIEW.workloads, part("trino-coordinator", ready=0, trouble=STARTING), NODES[1]),
)
TRINO_BROKEN = replace(
    WITH_TRINO,
    workloads=(
        *VIEW.workloads,
        part("trino-coordinator", ready=0, trouble=STARTING),
        part("trino-worker", ready=0, trouble=Trouble("OutOfMemory", "more memory")),
    ),
)


@pytest.mark.parametrize(
    ("view", "expected", "reason", "text"),
    [
        pytest.param(WITH_TRINO, True, "Ready", "", id="ready"),
        pytest.param(TRINO_STARTS, False, "Starting", "Until it is ready the query service reads with", id="starting"),
        pytest.param(TRINO_BROKEN, False, "OutOfMemory", "more memory", id="what is to be mended goes first"),
        pytest.param(
            replace(WITH_TRINO, engine="single", asks_for_trino=False), True, "Leaving", "no longer asked", id="leaving"
        ),
        pytest.param(
            replace(TRINO_BROKEN, engine=None, asks_for_trino=False), False, "OutOfMemory", "more", id="a wrong spec"
        ),
        pytest.param(
            replace(WITH_TRINO, suspend=True, workloads=(*GONE, *(replace(one, gone=True) for one in NODES))),
            False,
            "Stopped",
            "stopped",
            id="suspended",
        ),
    ],
)
def test_how_a_trino_of_the_operators_fares(view: View, expected: bool, reason: str, text: str) -> None:
    found = condition(view, "TrinoReady")
    assert (found.status, found.reason) == (expected, reason)
    assert text in found.message


REFUSED = EngineWord(answers=False, reason="Refused", message="1 of 1 query pods: found the credentials refused")
EXISTING = replace(VIEW, engine="distributed")


def saying(view: View, word: EngineWord | None) -> View:
    return replace(view, answer=replace(ANSWER, log=replace(LOG, engine=word)))


def test_of_a_trino_that_exists_query_pods_say_whether_it_answers() -> None:
    found = condition(saying(EXISTING, EngineWord(answers=True)), "TrinoReady")
    assert (found.status, found.reason) == (True, "Answers")
    view = saying(EXISTING, REFUSED)
    found = condition(view, "TrinoReady")
    assert (found.status, found.reason, found.message) == (False, "Refused", REFUSED.message)
    assert status(view, NOW)["phase"] == "Pending"
    assert condition(saying(EXISTING, None), "TrinoReady").status is None


def test_that_nobody_says_so_makes_no_pipeline_unready() -> None:
    found = status(saying(EXISTING, None), NOW)
    assert found["phase"] == "Running"
    words = {one["type"]: one["status"] for one in found["conditions"]}
    assert (words["Ready"], words["TrinoReady"]) == ("True", "Unknown")


def test_an_unknown_symbol_makes_no_pipeline_unready() -> None:
    word = SymbolsWord(known=False, reason=UNKNOWN, message="source binance: found BTCUSDX")
    found = status(replace(VIEW, answer=replace(ANSWER, log=replace(LOG, symbols=word))), NOW)
    assert found["phase"] == "Running"
    words = {one["type"]: (one["status"], one["reason"], one["message"]) for one in found["conditions"]}
    assert words["SymbolsKnown"] == ("False", UNKNOWN, word.message)
    assert words["Ready"] == ("True", "Running", "")
    assert "SymbolsKnown" not in {one["type"] for one in status(VIEW, NOW)["conditions"]}


def test_nodes_of_the_operators_that_are_ready_may_still_not_answer() -> None:
    assert condition(saying(WITH_TRINO, None), "TrinoReady").status is True
    assert condition(saying(WITH_TRINO, REFUSED), "TrinoReady").reason == "Refused"
    # What was said of another one, before, is no news of nodes that nobody asks yet.
    assert condition(saying(replace(WITH_TRINO, engine="single"), REFUSED), "TrinoReady").status is True
    assert condition(saying(TRINO_BROKEN, REFUSED), "TrinoReady").reason == "OutOfMemory"


def test_one_of_the_operators_that_leaves_for_another_says_nothing_of_that() -> None:
    view = saying(replace(WITH_TRINO, asks_for_trino=False), REFUSED)
    assert condition(view, "TrinoReady").reason == "Refused"


def test_without_one_nothing_is_said_of_it() -> None:
    assert [one for one in conditions(VIEW) if one.type == "TrinoReady"] == []


def test_which_engine_answers_stays_known_while_the_spec_is_wrong() -> None:
    assert status(WITH_TRINO, NOW)["query"]["engine"] == "distributed"
    wrong = replace(VIEW, previous={"query": {"engine": "distributed"}})
    assert status(wrong, NOW)["query"]["engine"] == "distributed"


DECIDED = taken(Decided(), tick(decision(replace(CALM, unread_records=20_000))), told=True)
DECIDING = replace(VIEW, decides=True, off=False, decided=DECIDED)
STOOD = {"level": 3, "decision": {"level": {"applied": 3}}}
TROUBLE = part("sink", ready=0, trouble=Trouble("CrashLoop", "it crashed"))


@pytest.mark.parametrize(
    ("view", "kind", "expected", "reason", "text"),
    [
        pytest.param(replace(VIEW, config_problem="x"), "ConfigValid", False, "InvalidSpec", "correct", id="spec"),
        pytest.param(replace(VIEW, inactive=("a.b",)), "ConfigValid", True, "InactiveSettings", "a.b", id="inactive"),
        pytest.param(replace(VIEW, answer=None), "SecretsReady", None, "NotYetKnown", "", id="no look: secrets"),
        pytest.param(replace(VIEW, answer=None), "KafkaReady", None, "NotYetKnown", "", id="no look: kafka"),
        pytest.param(replace(VIEW, answer=None), "TopicsReady", None, "NotYetKnown", "", id="no look: topics"),
        pytest.param(
            answered(secrets=Secrets({}, {"s": "gone"})),
            "SecretsReady",
            False,
            "SecretUnusable",
            "secret s",
            id="secret",
        ),
        pytest.param(answered(kafka_problem="x"), "KafkaReady", False, "Unreachable", "k:1", id="kafka"),
        pytest.param(
            replace(answered(kafka_problem="x"), step=Step.DRAIN),
            "KafkaReady",
            False,
            "Unreachable",
            "k2.dev/force-delete",
            id="kafka at a drain",
        ),
        pytest.param(answered(partitions={}), "TopicsReady", False, "Missing", "t", id="topic missing"),
        pytest.param(answered(topics_problem="x"), "TopicsReady", False, "Refused", "x", id="topic refused"),
        pytest.param(
            answered(partitions={T: 2}), "TopicsReady", False, "TooFewPartitions", "spec.suspend", id="topic small"
        ),
        pytest.param(answered(partitions={T: 9}), "TopicsReady", True, "MoreThanAsked", "9", id="topic large"),
        pytest.param(
            replace(VIEW, workloads=(part("ingest"), TROUBLE, part("query"))),
            "SinkReady",
            False,
            "CrashLoop",
            "it crashed",
            id="crash",
        ),
        pytest.param(replace(VIEW, workloads=()), "SinkReady", None, "NotYetKnown", "", id="no workload"),
        pytest.param(replace(VIEW, suspend=True, workloads=GONE), "SinkReady", False, "Stopped", "", id="stopped"),
        pytest.param(replace(VIEW, suspend=True, workloads=ENDING), "SinkReady", False, "Stopping", "", id="stopping"),
        pytest.param(
            replace(VIEW, suspend=True, step=Step.DRAIN), "SinkReady", False, "Draining", "1234 records", id="drain"
        ),
        pytest.param(
            replace(owing(7), step=Step.DRAIN),
            "SinkReady",
            False,
            "Draining",
            "7 records that levels put off",
            id="owed",
        ),
        pytest.param(
            replace(owing(None), step=Step.DRAIN),
            "SinkReady",
            False,
            "Draining",
            "an unknown number of records that levels put off",
            id="owed, unknown",
        ),
        pytest.param(
            replace(VIEW, deleting=True, step=Step.DRAIN, draining_s=1200.0, answer=None),
            "SinkReady",
            False,
            "DrainSlow",
            "an unknown number",
            id="slow drain",
        ),
        pytest.param(VIEW, "DecisionReady", True, "Off", "are Off", id="nothing to decide"),
        pytest.param(DECIDING, "DecisionReady", True, "Deciding", "", id="deciding"),
        pytest.param(replace(DECIDING, decided=None), "DecisionReady", None, "NotYetKnown", "", id="no turn"),
        pytest.param(
            replace(DECIDING, suspend=True, step=Step.SUSPENDED),
            "DecisionReady",
            False,
            "Stopped",
            "level",
            id="paused",
        ),
        pytest.param(
            replace(DECIDING, suspend=True, step=Step.DRAIN),
            "DecisionReady",
            True,
            "Deciding",
            "",
            id="it decides while it drains",
        ),
        pytest.param(
            replace(DECIDING, decided=replace(DECIDED, lacking=True)),
            "DecisionReady",
            False,
            "FiguresMissing",
            "not known",
            id="lacking",
        ),
        pytest.param(replace(VIEW, refusals=[Refusal("NameTaken", "y")]), "Owned", False, "NameTaken", "y", id="owned"),
    ],
)
def test_conditions(view: View, kind: str, expected: bool | None, reason: str, text: str) -> None:
    found = condition(view, kind)
    assert (found.status, found.reason) == (expected, reason)
    assert text in found.message


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(VIEW, "Running", id="running"),
        pytest.param(replace(VIEW, workloads=(TROUBLE,)), "Pending", id="not yet"),
        pytest.param(replace(VIEW, workloads=(TROUBLE,), previous={"phase": "Running"}), "Degraded", id="no longer"),
        pytest.param(replace(VIEW, config_problem="x"), "Failed", id="spec"),
        pytest.param(replace(VIEW, suspend=True), "Suspending", id="suspending"),
        pytest.param(replace(VIEW, suspend=True, step=Step.SUSPENDED), "Suspended", id="suspended"),
        pytest.param(replace(VIEW, deleting=True, config_problem="x"), "Deleting", id="deleting"),
    ],
)
def test_phases(view: View, expected: str) -> None:
    assert status(view, NOW)["phase"] == expected


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    before = status(VIEW, NOW)
    later = status(replace(VIEW, previous=before, workloads=(TROUBLE,)), NOW + timedelta(hours=1))
    times = {one["type"]: one["lastTransitionTime"] for one in later["conditions"]}
    assert times["KafkaReady"] == "2026-01-01T00:00:00Z"
    assert times["SinkReady"] == times["Ready"] == "2026-01-01T01:00:00Z"


def test_what_is_unknown_is_left_out() -> None:
    assert "lag" not in status(replace(VIEW, answer=None), NOW)
    nothing = replace(ANSWER, log=replace(LOG, read={}, committed={}, committed_at=None, newest_event_time=None))
    found = status(replace(VIEW, answer=nothing), NOW)
    assert "lag" not in found
    assert "freshness" not in found


def test_lag_alone_is_written_now_and_then() -> None:
    before = status(VIEW, NOW)
    more = before | {"lag": {"unreadRecords": 1}}
    assert not worth_writing(before, dict(before), 1e9)
    assert not worth_writing(before, more, 9.0)
    assert worth_writing(before, more, 10.0)
    assert worth_writing(before, more | {"phase": "Degraded"}, 0.0)


def test_a_decision_and_the_level_that_holds() -> None:
    found = status(DECIDING, NOW)
    assert (found["level"], found["decision"]["level"]["applied"]) == (2, 2)
    assert found["decision"]["level"]["since"] == "2026-01-01T00:00:00Z"
    until = NOW + timedelta(hours=1)
    person = replace(DECIDED, override=Override(Level.CIRCUIT_BREAK, "drill", "anna", NOW, until))
    found = status(replace(DECIDING, decided=person), NOW)
    assert (found["level"], found["decision"]["level"]["applied"]) == (4, 2)


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(replace(DECIDING, decided=None), id="before the first turn"),
        pytest.param(replace(DECIDING, decided=Decided()), id="before the first look"),
        pytest.param(replace(DECIDING, suspend=True, step=Step.STOP_SINK), id="while it stops"),
        pytest.param(replace(DECIDING, decides=None, off=False), id="while the spec is wrong"),
        pytest.param(replace(DECIDING, off=True), id="until services know that nothing is decided"),
    ],
)
def test_level_and_decision_stay(view: View) -> None:
    found = status(replace(view, previous=STOOD), NOW)
    assert {name: found[name] for name in STOOD} == STOOD


def test_they_go_once_nothing_is_decided() -> None:
    assert STOOD.keys().isdisjoint(status(replace(VIEW, previous=STOOD), NOW))


def test_an_operator_that_starts_says_of_decisions_what_was_said() -> None:
    before = status(replace(DECIDING, decided=replace(DECIDED, lacking=True)), NOW)
    fresh = replace(DECIDING, previous=before, decided=None)
    assert condition(fresh, "DecisionReady").reason == "FiguresMissing"
    assert condition(replace(fresh, previous=status(VIEW, NOW)), "DecisionReady").status is None


def test_why_a_decision_is_as_it_is_waits() -> None:
    before = status(DECIDING, NOW)
    sinks = {**before["decision"]["sinks"], "heldBy": ["Settling"]}
    assert not worth_writing(before, before | {"decision": {**before["decision"], "sinks": sinks}}, 9.0)
    assert worth_writing(before, before | {"decision": {**before["decision"], "sinks": sinks}}, 10.0)
    sinks["wanted"] = 9
    assert worth_writing(before, before | {"decision": {**before["decision"], "sinks": sinks}}, 0.0)


def test_roundings() -> None:
    assert [rounded(count) for count in (None, 0, 99, 123, 98765)] == [None, 0, 99, 120, 98000]
    assert [age_step(age_s) for age_s in (-3.0, 9.9, 10.0, 59.0, 90_000.0)] == [0, 0, 10, 30, 86_400]
