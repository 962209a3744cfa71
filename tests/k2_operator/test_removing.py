"""A deleted pipeline's tables and topics go with it where it says so: on a real API server and a real Kafka.

No pods run here: what the Job's pod does is said of it as a kubelet would, and what it really does is
tests/k2_sink/test_removal.py's.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from k2_operator.cluster import Cluster
from k2_operator.metrics import OperatorMetrics
from k2_operator.removal import Seen
from k2_operator.removing import Removing
from k2_operator.resource import Resource
from k2_operator.transport import WatchSigns, credentials, open_session
from support.cluster import ControlPlaneHandle
from support.operated import Operated, with_token
from support.operator import plain_body

pytestmark = pytest.mark.kafka

JOB = "crypto-removal"
DEPLOYMENTS = ("crypto-ingest-binance", "crypto-sink", "crypto-query")
SAID = "3 tables dropped and 9 files deleted"


def run(operated: Operated, **spec: object) -> None:
    """Start an operator and a pipeline with everything that it needs."""
    operated.start()
    whole: dict[str, Any] = {"deletionPolicy": "Delete", **spec}
    operated.apply(**whole)
    operated.wait(lambda: all(operated.replicas(name) for name in DEPLOYMENTS), "Deployments")
    operated.wait(lambda: operated.condition("TopicsReady").get("status") == "True", "topics")


def delete(operated: Operated, *more: str) -> None:
    operated.kubectl("delete", "k2pipeline", "crypto", "--wait=false", *more)


def pods(operated: Operated) -> list[dict[str, Any]]:
    chosen = "app.kubernetes.io/component=removal"
    found: list[dict[str, Any]] = json.loads(operated.kubectl("get", "pods", "-l", chosen, "-o", "json"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def say(operated: Operated, phase: str, **container: object) -> None:
    """Say of the Job's pod what a kubelet would."""
    pod = operated.wait(lambda: pods(operated), "the Job's pod")[0]
    own = {"name": "removal", "image": "k2-sink", "imageID": "x", "ready": False, "restartCount": 3, **container}
    status = {"status": {"phase": phase, "containerStatuses": [own]}}
    operated.patch("pod", pod["metadata"]["name"], status, "--subresource=status")


def succeed(operated: Operated) -> None:
    say(operated, "Succeeded", state={"terminated": {"exitCode": 0, "message": SAID}})


def own_topics(operated: Operated) -> set[str]:
    admin = AdminClient({"bootstrap.servers": operated.bootstrap_servers})
    return {name for name in admin.list_topics(timeout=20).topics if name.startswith(operated.topics_prefix)}


def gone(operated: Operated) -> bool:
    return operated.get("k2pipeline", "crypto") is None


def nothing_left(operated: Operated) -> bool:
    kinds = "deployment,job,cronjob,service,configmap,serviceaccount,poddisruptionbudget,networkpolicy"
    return not operated.kubectl("get", kinds, "-l", "k2.dev/pipeline=crypto", "-o", "name")


def test_tables_go_then_topics_then_the_rest_and_the_operator_may_die_at_each_step(operated: Operated) -> None:
    run(operated)
    both = {operated.topic, f"{operated.topic}.dlq"}
    assert own_topics(operated) == both
    operated.produce(5)
    operated.commit(3)
    delete(operated)
    operated.wait(lambda: operated.condition("SinkReady").get("reason") == "Draining", "a drain")
    assert operated.get("job", JOB) is None
    operated.commit(5)
    operated.wait(lambda: operated.get("job", JOB), "the Job")
    operated.kill()
    operated.start()
    operated.wait(lambda: operated.condition("TablesRemoved").get("reason") == "Removing", "what it waits for")
    assert operated.replicas("crypto-sink") == 0
    assert own_topics(operated) == both
    operated.kill()
    succeed(operated)
    operated.start()
    operated.wait(lambda: gone(operated), "its end")
    assert own_topics(operated) == set()
    assert nothing_left(operated)
    assert {f"TablesRemoved: {SAID}", "TopicsRemoved: its topics are gone"} <= {
        one["message"] for one in events(operated)
    }


def events(operated: Operated) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(operated.kubectl("get", "events", "-o", "json"))["items"]
    return found


def test_killed_between_tables_and_topics_it_asks_for_no_second_job(operated: Operated) -> None:
    run(operated)
    operated.apply(name="other", kafka={"bootstrapServers": "127.0.0.1:1"}, deletionPolicy="Delete")
    delete(operated)
    operated.wait(lambda: operated.get("job", JOB), "the Job")
    succeed(operated)
    # Whether the other has the same topics is not known as long as its Kafka does not answer.
    found = operated.wait(
        lambda: (one := operated.condition("TopicsRemoved")).get("reason") == "NotYetKnown" and one, "what it waits for"
    )
    assert f"{operated.topic} ({operated.namespace}/other)" in str(found)
    assert operated.condition("TablesRemoved")["message"] == SAID
    operated.kill()
    operated.kubectl("delete", "job", JOB)
    operated.start()
    operated.wait(lambda: operated.probe("readyz") == 200, "an operator")
    operated.kubectl("delete", "k2pipeline", "other", "--wait=false")
    operated.patch("k2pipeline", "other", {"spec": {"deletionPolicy": "Retain"}})
    operated.wait(lambda: gone(operated), "its end")
    assert operated.get("job", JOB) is None
    assert own_topics(operated) == set()


def test_a_topic_that_another_pipeline_has_stays(operated: Operated) -> None:
    run(operated)
    operated.apply(name="other")
    operated.wait(lambda: operated.condition("TopicsReady", "other").get("status") == "True", "its topics")
    both = own_topics(operated)
    delete(operated)
    operated.wait(lambda: operated.get("job", JOB), "the Job")
    succeed(operated)
    operated.wait(lambda: gone(operated), "its end")
    assert own_topics(operated) == both
    said = [one["message"] for one in events(operated) if one["message"].startswith("TopicsRemoved: left")]
    assert f"{operated.topic} ({operated.namespace}/other)" in said[0]


def test_a_job_that_fails_says_why_and_another_policy_lets_the_pipeline_go(operated: Operated) -> None:
    run(operated)
    delete(operated)
    operated.wait(lambda: operated.get("job", JOB), "the Job")
    ended = {"terminated": {"exitCode": 3, "message": "k2-removal: catalog: found no answer"}}
    say(operated, "Running", state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended)
    found = operated.wait(
        lambda: (one := operated.condition("TablesRemoved")).get("reason") == "CrashLoop" and one, "a reason"
    )
    assert "catalog: found no answer" in str(found)
    assert "spec.deletionPolicy: Retain lets the pipeline go without" in str(found)
    assert not gone(operated)
    operated.patch("k2pipeline", "crypto", {"spec": {"deletionPolicy": "Retain"}})
    operated.wait(lambda: gone(operated), "its end")
    assert nothing_left(operated)
    assert own_topics(operated) == {operated.topic, f"{operated.topic}.dlq"}


def test_another_image_makes_another_job(operated: Operated) -> None:
    run(operated)
    delete(operated)
    first = operated.wait(lambda: operated.get("job", JOB), "the Job")
    operated.kill()
    operated.start(images={"sink": "k2-sink:next"})

    def next_one() -> bool:
        body = operated.get("job", JOB)
        if body is None or first is None or body["metadata"]["uid"] == first["metadata"]["uid"]:
            return False
        return bool(body["spec"]["template"]["spec"]["containers"][0]["image"] == "k2-sink:next")

    operated.wait(next_one, "a Job with the other image")


def test_a_job_that_may_not_be_made_is_told(operated: Operated) -> None:
    run(operated)
    operated.kubectl("create", "quota", "no-jobs", "--hard=count/jobs.batch=0")
    delete(operated)
    found = operated.wait(
        lambda: (one := operated.condition("TablesRemoved")).get("reason") == "ApiRefused" and one, "a reason"
    )
    assert "exceeded quota" in str(found)
    operated.kubectl("delete", "quota", "no-jobs")
    operated.wait(lambda: operated.get("job", JOB), "the Job")


def test_a_job_of_somebody_else_is_left_alone(operated: Operated) -> None:
    run(operated)
    operated.kubectl("create", "job", JOB, "--image=mine")
    mine = operated.get("job", JOB)
    delete(operated)
    operated.wait(lambda: operated.condition("TablesRemoved").get("reason") == "NameTaken", "a reason")
    operated.patch("k2pipeline", "crypto", {"spec": {"deletionPolicy": "Retain"}})
    operated.wait(lambda: gone(operated), "its end")
    left = operated.get("job", JOB)
    assert mine is not None
    assert left is not None
    assert left["metadata"]["uid"] == mine["metadata"]["uid"]


def test_deleted_in_the_foreground_it_goes_in_the_same_order(operated: Operated) -> None:
    """Kubernetes begins to delete the children, as asked; what is needed comes back, and the drain is not skipped."""
    run(operated)
    operated.produce(5)
    operated.commit(3)
    delete(operated, "--cascade=foreground")
    operated.wait(lambda: operated.condition("SinkReady").get("reason") == "Draining", "a drain")
    body = operated.get("k2pipeline", "crypto")
    assert body is not None
    assert body["metadata"]["finalizers"] == ["k2.dev/teardown"]
    operated.commit(5)
    operated.wait(lambda: pods(operated), "the Job's pod")
    succeed(operated)
    operated.wait(lambda: gone(operated), "its end")
    assert own_topics(operated) == set()


def test_an_annotation_skips_the_drain_and_not_the_policy(operated: Operated) -> None:
    run(operated)
    operated.produce(5)
    delete(operated)
    operated.wait(lambda: operated.condition("SinkReady").get("reason") == "Draining", "a drain")
    operated.kubectl("annotate", "k2pipeline", "crypto", "k2.dev/force-delete=true")
    operated.wait(lambda: operated.get("job", JOB), "the Job")
    assert not gone(operated)


def test_suspended_nothing_is_removed(operated: Operated) -> None:
    run(operated)
    operated.produce(1)
    operated.commit(1)
    operated.patch("k2pipeline", "crypto", {"spec": {"suspend": True}})
    operated.wait(lambda: operated.phase() == "Suspended", "a suspended pipeline")
    assert operated.get("job", JOB) is None
    assert operated.condition("TablesRemoved") == {}
    assert operated.partitions() == 2


def test_maintenance_ends_before_tables_go(operated: Operated) -> None:
    run(
        operated,
        query={"mode": "distributed", "trino": {"url": "http://trino:8080"}},
        maintenance={"schedule": "0 3 * * *"},
    )
    operated.wait(lambda: operated.get("cronjob", "crypto-maintenance"), "a CronJob")
    operated.kubectl("create", "job", "night", "--from=cronjob/crypto-maintenance")
    chosen = "app.kubernetes.io/component=maintenance"
    operated.wait(lambda: operated.kubectl("get", "pods", "-l", chosen, "-o", "name"), "its pod")
    delete(operated)
    operated.wait(lambda: operated.get("job", JOB), "the Job")
    assert operated.get("cronjob", "crypto-maintenance") is None
    assert not operated.kubectl("get", "pods", "-l", chosen, "-o", "name")


def test_a_spec_that_is_wrong_holds_it_and_says_the_way_out(operated: Operated) -> None:
    run(operated)
    operated.kill()
    operated.start(defaults={"kafka": {"bootstrapServers": operated.bootstrap_servers, "replicationFactor": 1}})
    operated.wait(lambda: operated.condition("ConfigValid").get("status") == "False", "a spec without storage")
    operated.kubectl("annotate", "k2pipeline", "crypto", "k2.dev/force-delete=true")
    delete(operated)
    found = operated.wait(
        lambda: (one := operated.condition("TablesRemoved")).get("reason") == "InvalidSpec" and one, "a reason"
    )
    assert "spec.storage" in str(found)
    operated.patch("k2pipeline", "crypto", {"spec": {"deletionPolicy": "Retain"}})
    operated.wait(lambda: gone(operated), "its end")


def test_a_role_without_jobs_is_told_of(
    namespace: str, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of a chart that knew no Jobs yet, with an operator that does."""
    create = ("--namespace", namespace, "create")
    assert control_plane.kubectl(*create, "serviceaccount", "nobody").returncode == 0
    token = control_plane.kubectl(*create, "token", "nobody").stdout.strip()
    monkeypatch.setenv("KUBECONFIG", str(with_token(control_plane.kubeconfig, tmp_path / "kubeconfig", token)))
    body = plain_body(deletionPolicy="Delete")
    body["metadata"] |= {"namespace": namespace, "resourceVersion": "1"}

    async def look() -> Seen:
        async with open_session(credentials(), OperatorMetrics(CollectorRegistry()), WatchSigns()) as session:
            return await Removing(Cluster(session)).look(Resource.of(body))

    seen = asyncio.run(look())
    assert seen.job is None
    assert "cannot get resource" in str(seen.problem)
