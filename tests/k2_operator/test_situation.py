from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from k2_core.controller.sight import Executor
from k2_core.policy.thresholds import Mode
from k2_core.types import TopicName
from k2_operator.decided import Decided, taken
from k2_operator.names import FINALIZER, INGEST
from k2_operator.pipeline import effective
from k2_operator.plan import Plan, Step, plan
from k2_operator.resource import Resource
from k2_operator.signals import Answer, Log, Secrets
from k2_operator.situation import (
    Children,
    Situation,
    engines_due,
    executor_of,
    frozen,
    is_gone,
    manifests_due,
    no_longer_wanted,
    question_for,
    reading,
    standing_of,
    still_decides,
    workloads_of,
)
from k2_operator.store import Place
from support.decided_by import CALM, config, decision, tick
from support.operator import operator_config, plain_body

MANAGED = {"app.kubernetes.io/managed-by": "k2-operator"}
DEPLOYMENTS = ["crypto-ingest-binance", "crypto-sink", "crypto-query"]
RUN = Plan(Step.RUN, ingest=True, sink=True, query=True)
STOP_QUERY = Plan(Step.STOP_QUERY, ingest=False, sink=False, query=False)


def resource(phase: str = "Running", *, suspend: bool = False, deleting: bool = False) -> Resource:
    body = plain_body(suspend=suspend) | {"status": {"phase": phase}}
    body["metadata"] |= {"resourceVersion": "1", "finalizers": [FINALIZER]}
    if deleting:
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Resource.of(body)


def deployment(name: str, replicas: int = 0, **labels: str) -> tuple[Place, dict[str, Any]]:
    own = {f"app.kubernetes.io/{label.replace('_', '-')}": value for label, value in labels.items()}
    metadata = {"name": name, "generation": 1, "labels": own}
    body = {"metadata": metadata, "spec": {"replicas": replicas}, "status": {"observedGeneration": 1}}
    return Place("Deployment", "default", name), body


def situation(children: Children = (), *, due: Plan = RUN, found: Resource | None = None) -> Situation:
    spec = effective(plain_body(), operator_config())
    fares = workloads_of(spec, children)
    who = found or resource()
    asked = question_for(spec, who, fares)
    answer = Answer(asked, 0.0, Secrets(), dict(asked.topics), Log())
    return Situation(who, spec, None, children, fares, answer, due)


def answered(one: Situation, **more: Any) -> Situation:
    assert one.answer is not None
    return replace(one, answer=replace(one.answer, **more))


def replicas(made: list[dict[str, Any]]) -> Mapping[str, int]:
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in made if one["kind"] == "Deployment"}


def kinds(made: list[dict[str, Any]]) -> set[str]:
    return {one["kind"] for one in made}


class TestWorkloads:
    def test_those_of_the_spec_and_those_that_stand_there_without_it(self) -> None:
        children = [deployment("crypto-ingest-old", 1, component="ingest"), deployment("another")]
        found = workloads_of(effective(plain_body(), operator_config()), children)
        assert [one.name for one in found] == [*DEPLOYMENTS, "crypto-ingest-old"]
        assert not is_gone(found, INGEST)

    def test_where_the_spec_is_wrong_those_that_stand_there(self) -> None:
        assert [one.name for one in workloads_of(None, [deployment("crypto-sink", 0, component="sink")])] == [
            "crypto-sink"
        ]


class TestQuestion:
    @pytest.mark.parametrize(
        ("who", "running", "expected"),
        [
            pytest.param(resource("Suspended", suspend=True), 0, (True, True), id="suspended"),
            pytest.param(resource("Suspended", suspend=True), 1, (True, False), id="a sink is there again"),
            pytest.param(resource("Suspended"), 0, (True, False), id="to be resumed"),
            pytest.param(resource("Suspending", suspend=True), 0, (True, False), id="not suspended yet"),
            pytest.param(resource("Suspended", suspend=True, deleting=True), 0, (False, False), id="deleted"),
        ],
    )
    def test_topics_are_made_unless_it_goes_and_grow_while_it_is_suspended(
        self, who: Resource, running: int, expected: tuple[bool, bool]
    ) -> None:
        spec = effective(plain_body(), operator_config())
        asked = question_for(spec, who, workloads_of(spec, [deployment("crypto-sink", running, component="sink")]))
        assert (asked.create, asked.grow) == expected

    def test_of_symbols_only_sources_that_listen_can_say_anything(self) -> None:
        spec = effective(plain_body(), operator_config())
        assert question_for(spec, resource(), []).symbols_group == spec.pipeline.symbols_group
        files = {"name": "a", "venue": "asx", "files": [{"name": "a", "path": "s3://b/a.csv", "symbol": "BHP"}]}
        spec = effective(plain_body(ingestion=[files]), operator_config())
        assert question_for(spec, resource(), []).symbols_group is None


class TestStanding:
    def test_a_sink_that_is_there_ran_whatever_the_status_says(self) -> None:
        children = [deployment("crypto-sink", 1, component="sink")]
        fares = workloads_of(None, children)
        found = standing_of(resource("Pending"), children, fares, drained=None)
        assert (found.ran, found.sink_gone, found.query_gone, found.children_gone) == (True, False, True, False)
        assert not standing_of(resource("Pending"), [], [], drained=None).ran


class TestManifests:
    def test_all_of_a_pipeline_that_runs(self) -> None:
        assert replicas(manifests_due(situation(), operator_config())) == dict.fromkeys(DEPLOYMENTS, 1)

    def test_no_replicas_for_what_may_not_run(self) -> None:
        due = Plan(Step.DRAIN, ingest=False, sink=True, query=True)
        made = manifests_due(situation(due=due), operator_config())
        assert replicas(made) == {"crypto-ingest-binance": 0, "crypto-sink": 1, "crypto-query": 1}

    def test_of_what_is_deleted_no_idle_deployment_is_made_anew(self) -> None:
        children = [deployment("crypto-sink", 1, component="sink")]
        one = situation(children, due=STOP_QUERY, found=resource(deleting=True))
        assert replicas(manifests_due(one, operator_config())) == {"crypto-sink": 0}

    @pytest.mark.parametrize(
        "lacking",
        [pytest.param({"effective": None}, id="a right spec"), pytest.param({"answer": None}, id="a look")],
    )
    def test_nothing_for_want_of(self, lacking: dict[str, Any]) -> None:
        one = replace(situation(), **lacking)
        assert manifests_due(one, operator_config()) == []
        assert one.effective is None or frozen(one, [])

    @pytest.mark.parametrize(
        "problem",
        [
            pytest.param({"secrets": Secrets({}, {"keys": "there is none"})}, id="a secret"),
            pytest.param({"kafka_problem": "no answer", "partitions": None}, id="Kafka"),
            pytest.param({"partitions": {TopicName("t"): 1}}, id="topics"),
        ],
    )
    def test_neither_pods_nor_their_file_while_something_is_missing(self, problem: dict[str, Any]) -> None:
        made = manifests_due(answered(situation(), **problem), operator_config())
        assert kinds(made) == {"ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "Service"}

    def test_what_was_accepted_is_mended_without_kafka_but_not_without_its_secrets(self) -> None:
        [file] = [one for one in manifests_due(situation(), operator_config()) if one["kind"] == "ConfigMap"]
        one = situation([(Place("ConfigMap", "default", "crypto-pipeline"), file)])
        away = answered(one, kafka_problem="no answer", partitions=None)
        assert "Deployment" in kinds(manifests_due(away, operator_config()))
        unlocked = answered(away, secrets=Secrets({}, {"keys": "there is none"}))
        assert "Deployment" not in kinds(manifests_due(unlocked, operator_config()))


class TestMaintenance:
    @pytest.mark.parametrize(
        ("one", "expected"),
        [
            pytest.param(situation(), True, id="running"),
            pytest.param(situation(due=STOP_QUERY, found=resource(suspend=True)), False, id="suspended"),
            pytest.param(answered(situation(), secrets=Secrets({}, {"keys": "none"})), False, id="a secret is missing"),
        ],
    )
    def test_it_is_scheduled_while_the_pipeline_runs(self, one: Situation, expected: bool) -> None:
        query = {"mode": "distributed", "trino": {"url": "http://trino:8080"}}
        spec = effective(plain_body(query=query, maintenance={"schedule": "0 3 * * *"}), operator_config())
        made = manifests_due(replace(one, effective=spec), operator_config())
        assert ("CronJob" in kinds(made)) is expected
        job = (Place("CronJob", "default", "crypto-maintenance"), {"metadata": {"labels": MANAGED}})
        gone = no_longer_wanted(replace(one, effective=spec, children=[job]), made)
        assert (job[0] in gone) is not expected


def scaled(mode: str, there: int = 0, decided: Decided | None = None) -> Situation:
    children = [deployment("crypto-sink", there, component="sink")] if there else []
    spec = effective(plain_body(scaling={"mode": mode}, sink={"replicas": 2}), operator_config())
    return replace(situation(children), effective=spec, decided=decided)


def decided_on(sinks: int) -> Decided:
    return taken(Decided(), tick(decision(replace(CALM, replicas=sinks))), told=True)


class TestSinks:
    @pytest.mark.parametrize(
        ("one", "expected"),
        [
            pytest.param(scaled("Auto", 3, decided_on(5)), 5, id="decided"),
            pytest.param(scaled("Auto", 0, decided_on(5)), 5, id="decided before it was suspended"),
            pytest.param(scaled("Auto", 3), 3, id="as many as there are"),
            pytest.param(scaled("Auto", 3, Decided()), 3, id="before the first turn"),
            pytest.param(scaled("Auto"), 2, id="a new one"),
            pytest.param(scaled("Recommend", 3, decided_on(5)), 2, id="recommended"),
            pytest.param(scaled("Off", 3, decided_on(5)), 2, id="off"),
        ],
    )
    def test_how_many_there_are_to_be(self, one: Situation, expected: int) -> None:
        assert replicas(manifests_due(one, operator_config()))["crypto-sink"] == expected

    def test_their_number_is_no_configuration(self) -> None:
        def template(one: Situation) -> Any:
            made = manifests_due(one, operator_config())
            return next(
                item["spec"]["template"]
                for item in made
                if item["metadata"]["name"] == "crypto-sink" and item["kind"] == "Deployment"
            )

        assert template(scaled("Auto", 3, decided_on(5))) == template(scaled("Auto", 3, decided_on(4)))

    def test_what_a_controller_is_told_of_them(self) -> None:
        place, body = deployment("crypto-sink", 3, component="sink")
        assert executor_of(workloads_of(None, [(place, body)])) == Executor(3, rolling_out=False)
        body["status"] |= {"replicas": 4, "updatedReplicas": 1}
        assert executor_of(workloads_of(None, [(place, body)])) == Executor(3, rolling_out=True)
        assert executor_of([], stopping=True) == Executor(None, stopping=True)
        assert executor_of([]) == Executor(None)


class TestDecides:
    @pytest.mark.parametrize(
        ("spec", "status", "decided", "expected"),
        [
            pytest.param({"scaling": {"mode": "Recommend"}}, {}, None, True, id="scaling"),
            pytest.param({"degradation": {"mode": "Auto"}}, {}, None, True, id="degradation"),
            pytest.param({}, {}, None, False, id="off"),
            pytest.param({}, {"decision": {}}, None, True, id="off, which nobody has been told"),
            pytest.param({}, {"decision": {}}, decided_on(2), True, id="off, and decided before"),
            pytest.param(
                {},
                {"decision": {}},
                taken(Decided(), tick(decision(settings=config(Mode.OFF, Mode.OFF))), told=True),
                False,
                id="off, and told",
            ),
        ],
    )
    def test_a_pipeline_has_a_controller_until_services_know_that_it_has_none(
        self, spec: dict[str, Any], status: dict[str, Any], decided: Decided | None, expected: bool
    ) -> None:
        one = situation(found=replace(resource(), status=status))
        one = replace(one, effective=effective(plain_body(**spec), operator_config()), decided=decided)
        assert still_decides(one) is expected

    def test_not_known_where_the_spec_is_wrong(self) -> None:
        assert still_decides(replace(situation(), effective=None)) is None


def test_children_of_a_source_that_was_taken_out_are_no_longer_wanted() -> None:
    pod = (
        Place("Pod", "default", "crypto-sink-1"),
        {"metadata": deployment("", managed_by="k2-operator")[1]["metadata"]},
    )
    children = [
        deployment("crypto-ingest-old", 1, component="ingest", managed_by="k2-operator"),
        deployment("crypto-sink", 1, component="sink", managed_by="k2-operator"),
        deployment("somebody-elses", 1),
        pod,
    ]
    one = situation(children)
    found = no_longer_wanted(one, manifests_due(one, operator_config()))
    assert [place.name for place in found] == ["crypto-ingest-old"]


def test_the_plan_follows_from_the_standing() -> None:
    found = standing_of(resource(suspend=True), [], workloads_of(None, []), drained=None)
    assert plan(found).step is Step.DRAIN


class TestSwitch:
    """From one engine to the other and back, as a cluster without nodes would go through it."""

    def after(self, children: Children, *, asked: bool) -> tuple[Situation, list[dict[str, Any]]]:
        """What one reconcile finds and makes of what stands there."""
        cluster = {"accessSecretName": "trino-access", "tlsSecretName": "trino-tls"}
        query = {"mode": "distributed", "trinoCluster": cluster} if asked else {}
        s3 = {"accessKeySecret": {"name": "s3", "key": "a"}, "secretKeySecret": {"name": "s3", "key": "b"}}
        storage = {"catalog": {"type": "rest", "uri": "http://catalog"}, "warehouse": "s3://lake", "s3": s3}
        spec = effective(plain_body(query=query, storage=storage), operator_config())
        fares = workloads_of(spec, children)
        engines = engines_due(spec, fares, children)
        one = replace(situation(children), effective=reading(spec, engines), workloads=fares, engines=engines)
        return one, manifests_due(one, operator_config())

    def standing(self, made: list[dict[str, Any]], *ready: str) -> list[tuple[Place, dict[str, Any]]]:
        """What was made, with these Deployments ready."""
        found = []
        for one in made:
            name, figures = one["metadata"]["name"], {}
            if one["kind"] == "Deployment":
                wanted = one["spec"]["replicas"] if any(part in name for part in ready) else 0
                figures = {"replicas": wanted, "readyReplicas": wanted, "updatedReplicas": wanted}
            found.append((Place(one["kind"], "default", name), {**one, "status": {"observedGeneration": 1, **figures}}))
        return found

    def reads_with_trino(self, made: list[dict[str, Any]]) -> bool:
        [query] = [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == "crypto-query"]
        return "K2_TRINO_URL" in str(query)

    def test_there_and_back(self) -> None:
        _, single = self.after([], asked=False)
        usual = {(one["kind"], one["metadata"]["name"]) for one in single}
        ready = ("ingest", "sink", "query")

        one, coming = self.after(self.standing(single, *ready), asked=True)
        assert not self.reads_with_trino(coming)
        assert len(coming) == len(single) + 12
        one, headed = self.after(self.standing(coming, *ready, "coordinator"), asked=True)
        assert not self.reads_with_trino(headed)
        one, there = self.after(self.standing(headed, *ready, "trino"), asked=True)
        assert self.reads_with_trino(there)
        one, away = self.after(self.standing(there, *ready), asked=True)
        assert self.reads_with_trino(away)

        one, leaving = self.after(self.standing(away, *ready, "trino"), asked=False)
        assert not self.reads_with_trino(leaving)
        assert {(item["kind"], item["metadata"]["name"]) for item in leaving} == usual
        assert no_longer_wanted(one, leaving) == []

        nodes = [item for item in away if "trino" in item["metadata"]["name"]]
        rolling = self.standing(leaving, "ingest", "sink") + self.standing(nodes, "trino")
        one, made = self.after(rolling, asked=False)
        assert no_longer_wanted(one, made) == []
        rolled = self.standing(leaving, *ready) + self.standing(nodes, "trino")
        one, made = self.after(rolled, asked=False)
        assert len(no_longer_wanted(one, made)) == 12

    def test_stopped_after_the_query_service_that_reads_with_it(self) -> None:
        one, _ = self.after([], asked=True)
        stopping = replace(one, due=STOP_QUERY)
        found = replicas(manifests_due(stopping, operator_config()))
        assert (found["crypto-query"], found["crypto-trino-coordinator"], found["crypto-trino-worker"]) == (0, 1, 2)
        gone = replace(one, due=replace(STOP_QUERY, step=Step.STOP_TRINO))
        assert set(replicas(manifests_due(gone, operator_config())).values()) == {0}
