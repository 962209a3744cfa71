"""From DuckDB to a Trino of the operator's and back, against a real API server and a real Kafka. No pods run here."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from k2_core.config import ServiceSettings
from k2_core.kafka import KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.types import Offset, Partition, TopicName
from support.operated import Operated

pytestmark = pytest.mark.kafka

NODES = ("trino-coordinator", "trino-worker")
SHOWN = ("wanted_coordinators", "ready_coordinators", "wanted_workers", "ready_workers")
USUAL = ("ingest", "sink", "query")
SECRETS = {
    "s3": ("access", "secret"),
    "trino-access": ("password", "maintenancePassword", "sharedSecret"),
    "trino-tls": ("tls.crt", "tls.key", "ca.crt"),
}
STORAGE = {
    "catalog": {"type": "rest", "uri": "http://catalog:8181"},
    "warehouse": "s3://k2/lake",
    "s3": {
        "accessKeySecret": {"name": "s3", "key": "access"},
        "secretKeySecret": {"name": "s3", "key": "secret"},
    },
}
DISTRIBUTED = {
    "mode": "distributed",
    "trinoCluster": {"accessSecretName": "trino-access", "tlsSecretName": "trino-tls"},
}


def reads_with_trino(operated: Operated) -> bool:
    return "K2_TRINO_URL" in json.dumps(operated.get("deployment", "crypto-query"))


def engine(operated: Operated) -> str:
    return str((operated.get("k2pipeline", "crypto") or {}).get("status", {}).get("query", {}).get("engine"))


def ready(operated: Operated, component: str) -> bool:
    body = operated.get("deployment", f"crypto-{component}") or {}
    return bool(body.get("status", {}).get("readyReplicas"))


def tended(operated: Operated, condition: Callable[[], bool], what: str, *components: str) -> None:
    """Wait for a condition while pods of these components become ready, and of no other."""

    def reached() -> bool:
        operated.tend(*components)
        return condition()

    operated.wait(reached, what)


def again(operated: Operated) -> None:
    """Kill the operator and start another, which has looked at the pipeline."""
    operated.kill()
    operated.start()
    operated.wait(lambda: operated.metrics().get('k2_operator_reconciles_total{outcome="done"}', 0) > 1, "a reconcile")


def children(operated: Operated) -> list[str]:
    kinds = "deployment,service,configmap,serviceaccount,poddisruptionbudget,networkpolicy"
    names = operated.kubectl("get", kinds, "-l", "k2.dev/pipeline=crypto", "-o", "name").split()
    return [name for name in names if "trino" in name]


def test_there_and_back_with_an_operator_that_dies_at_each_step(operated: Operated) -> None:
    for name, keys in SECRETS.items():
        operated.kubectl("create", "secret", "generic", name, *(f"--from-literal={key}=x" for key in keys))
    operated.start()
    operated.apply(storage=STORAGE)
    tended(operated, lambda: operated.phase() == "Running", "phase Running", *USUAL)

    operated.apply(storage=STORAGE, query=DISTRIBUTED)
    operated.wait(lambda: operated.condition("TrinoReady").get("status") == "False", "the condition")
    assert len(children(operated)) == 12
    tended(operated, lambda: ready(operated, "trino-coordinator"), "a coordinator", *USUAL, "trino-coordinator")
    again(operated)
    assert not reads_with_trino(operated)
    assert engine(operated) == "single"

    tended(operated, lambda: reads_with_trino(operated), "the query service to roll", *NODES)
    again(operated)
    assert reads_with_trino(operated)
    assert engine(operated) == "distributed"
    tended(operated, lambda: operated.phase() == "Running", "phase Running", *USUAL, *NODES)
    labels = f'{{namespace="{operated.namespace}",pipeline="crypto"}}'
    figures = {name: operated.metrics()[f"k2_operator_pipeline_trino_{name}{labels}"] for name in SHOWN}
    assert figures == {"wanted_coordinators": 1, "ready_coordinators": 1, "wanted_workers": 2, "ready_workers": 2}

    operated.apply(storage=STORAGE)
    operated.wait(lambda: not reads_with_trino(operated), "the query service to roll back")
    again(operated)
    assert len(children(operated)) == 12
    assert operated.condition("TrinoReady")["reason"] == "Leaving"
    tended(operated, lambda: not children(operated), "Trino to go", *USUAL)
    operated.wait(lambda: not operated.condition("TrinoReady"), "the condition to go")
    assert engine(operated) == "single"


def test_a_secret_that_is_missing_leaves_what_runs_as_it_is(operated: Operated) -> None:
    operated.kubectl("create", "secret", "generic", "s3", "--from-literal=access=x", "--from-literal=secret=x")
    operated.start()
    operated.apply(storage=STORAGE)
    operated.wait(lambda: operated.replicas("crypto-query"), "Deployments")
    operated.apply(storage=STORAGE, query=DISTRIBUTED)
    found: dict[str, Any] = {}

    def has_none() -> bool:
        found.update(operated.condition("SecretsReady"))
        return found.get("status") == "False"

    operated.wait(has_none, "the condition")
    assert "secret trino-access: there is none" in found["message"]
    assert operated.replicas("crypto-query") == 1
    assert operated.replicas("crypto-trino-coordinator") is None


def test_what_query_pods_say_of_a_trino_that_exists_is_a_condition(operated: Operated) -> None:
    operated.kubectl("create", "secret", "generic", "s3", "--from-literal=access=x", "--from-literal=secret=x")
    operated.start()
    operated.apply(storage=STORAGE, query={"mode": "distributed", "trino": {"url": "https://trino.desk:8443"}})
    tended(operated, lambda: operated.phase() == "Running", "phase Running", *USUAL)
    silent = operated.condition("TrinoReady")
    assert (silent["status"], silent["reason"]) == ("Unknown", "NotYetKnown")

    pods = operated.kubectl("get", "pods", "-o", "name")
    say(operated, "Refused", "Trino at https://trino.desk:8443: found the credentials refused")
    operated.wait(lambda: operated.condition("TrinoReady").get("status") == "False", "the condition")
    told = operated.condition("TrinoReady")
    assert (told["reason"], told["message"]) == (
        "Refused",
        "1 of 1 query pods: Trino at https://trino.desk:8443: found the credentials refused",
    )
    assert operated.phase() == "Degraded"
    say(operated, "Answers", None)
    operated.wait(lambda: operated.condition("TrinoReady").get("status") == "True", "the condition to be True")
    operated.wait(lambda: operated.phase() == "Running", "phase Running")
    assert operated.kubectl("get", "pods", "-o", "name") == pods


def say(operated: Operated, reason: str, problem: str | None) -> None:
    """Write what a query pod writes; there is none here."""
    admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers=operated.bootstrap_servers))
    text = ServiceReport("pod", datetime.now(UTC), reason, problem).dump()
    signals = {(TopicName(operated.topic), Partition(1)): (Offset(0), text)}
    admin.write_group_signals(f"k2.{operated.topics_prefix}.crypto.engine", signals).result(20)
