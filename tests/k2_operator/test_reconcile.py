"""The operator against a real API server and a real Kafka. No pods run here: that is the end-to-end test's."""

from __future__ import annotations

import json
import time

import pytest

from support.operated import Operated

pytestmark = pytest.mark.kafka

DEPLOYMENTS = ("crypto-ingest-binance", "crypto-sink", "crypto-query")


def running(operated: Operated) -> None:
    """Wait until all Deployments are there, with their replicas."""
    operated.wait(lambda: all(operated.replicas(name) for name in DEPLOYMENTS), "Deployments")


class TestSteadyState:
    def test_children_are_made_once_and_then_nothing_is_written(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.wait(lambda: operated.condition("TopicsReady").get("status") == "True", "topics")
        assert operated.partitions() == 2
        operated.wait(lambda: quiet(operated, 3), "quiet")
        kinds = "deployment,service,configmap,serviceaccount,poddisruptionbudget,networkpolicy"
        text = operated.kubectl("get", kinds, "-l", "k2.dev/pipeline=crypto", "-o", "name")
        assert len(text.split()) == 14
        before = operated.writes()
        operated.wait(lambda: quiet(operated, 10), "ten quiet seconds", 15)
        assert operated.writes() == before

    def test_a_new_operator_writes_nothing_for_what_stands(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.wait(lambda: quiet(operated, 3), "quiet")
        operated.kill()
        operated.start()
        operated.wait(lambda: reconciles(operated) > 1, "a reconcile")
        operated.wait(lambda: quiet(operated, 3), "quiet")
        assert operated.writes() == 0


def reconciles(operated: Operated) -> float:
    return operated.metrics().get('k2_operator_reconciles_total{outcome="done"}', 0)


def quiet(operated: Operated, seconds: float) -> bool:
    """Whether nothing is written for so long."""
    before = operated.writes()
    time.sleep(seconds)
    return operated.writes() == before


class TestDrift:
    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            pytest.param("deployment", "crypto-sink", id="Deployment"),
            pytest.param("configmap", "crypto-pipeline", id="ConfigMap"),
            pytest.param("service", "crypto-query", id="Service"),
            pytest.param("networkpolicy", "crypto-sink", id="NetworkPolicy"),
            pytest.param("poddisruptionbudget", "crypto-query", id="PodDisruptionBudget"),
            pytest.param("serviceaccount", "crypto-ingest", id="ServiceAccount"),
        ],
    )
    def test_a_deleted_child_is_back_within_10_s(self, operated: Operated, kind: str, name: str) -> None:
        operated.start()
        operated.apply()
        running(operated)
        old = operated.get(kind, name)
        assert old is not None
        operated.kubectl("delete", kind, name, "--wait=false")

        def back() -> bool:
            body = operated.get(kind, name)
            return body is not None and body["metadata"]["uid"] != old["metadata"]["uid"]

        operated.wait(back, f"another {kind}", 10)

    def test_an_edit_is_taken_back(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.kubectl("set", "image", "deployment/crypto-sink", "sink=evil:1")
        operated.kubectl("label", "deployment/crypto-query", "k2.dev/pipeline-")
        operated.kubectl("scale", "deployment/crypto-query", "--replicas=5")

        def mended() -> bool:
            sink, query = operated.get("deployment", "crypto-sink"), operated.get("deployment", "crypto-query")
            assert sink is not None
            assert query is not None
            image = sink["spec"]["template"]["spec"]["containers"][0]["image"]
            labelled = query["metadata"]["labels"].get("k2.dev/pipeline") == "crypto"
            return bool(image == "k2-sink:0.1.0" and labelled and query["spec"]["replicas"] == 1)

        operated.wait(mended, "the children as they were", 10)
        assert operated.condition("Owned")["status"] == "True"

    def test_what_others_add_stays(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.kubectl("annotate", "deployment/crypto-sink", "example.org/note=kept")
        operated.wait(lambda: quiet(operated, 2), "quiet")
        sink = operated.get("deployment", "crypto-sink")
        assert sink is not None
        assert sink["metadata"]["annotations"]["example.org/note"] == "kept"

    def test_a_source_that_is_taken_out_goes_with_its_children(self, operated: Operated) -> None:
        operated.start()
        sources = [
            {"name": name, "venue": "binance", "symbols": [{"name": symbol}], "partitions": 2}
            for name, symbol in (("binance", "BTCUSDT"), ("second", "ETHUSDT"))
        ]
        operated.apply(ingestion=sources)
        operated.wait(lambda: operated.replicas("crypto-ingest-second"), "the second source")
        operated.apply(ingestion=sources[:1])
        operated.wait(lambda: operated.get("deployment", "crypto-ingest-second") is None, "its end")
        operated.wait(lambda: operated.get("networkpolicy", "crypto-ingest-second") is None, "its policy's end")
        assert operated.replicas("crypto-ingest-binance") == 1


class TestMaintenance:
    def test_it_comes_with_a_schedule_and_goes_with_the_pods(self, operated: Operated) -> None:
        operated.start()
        query = {"mode": "distributed", "trino": {"url": "http://trino:8080"}}
        operated.apply(query=query, maintenance={"schedule": "0 3 * * *"})
        running(operated)
        operated.wait(lambda: operated.get("cronjob", "crypto-maintenance"), "a CronJob")
        operated.wait(lambda: quiet(operated, 2), "quiet")
        before = operated.writes()
        operated.wait(lambda: quiet(operated, 5), "five quiet seconds", 15)
        assert operated.writes() == before
        operated.kubectl("patch", "k2pipeline", "crypto", "--type=merge", "-p", '{"spec": {"suspend": true}}')
        operated.wait(lambda: operated.get("cronjob", "crypto-maintenance") is None, "no CronJob")


class TestConflicts:
    def test_another_manager_of_a_field_is_told_of_and_not_overruled(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        manifest = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "crypto-sink"},
            "spec": {"replicas": 4},
        }
        operated.kubectl(
            "apply", "--server-side", "--field-manager=argo", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest)
        )
        found = operated.wait(
            lambda: (one := operated.condition("Owned")).get("status") == "False" and one, "a conflict"
        )
        assert found
        assert found["reason"] == "FieldConflict"
        assert "argo owns .spec.replicas" in found["message"]
        assert operated.replicas("crypto-sink") == 4
        assert operated.phase() != "Running"

    def test_a_foreign_autoscaler_is_refused(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.kubectl("autoscale", "deployment", "crypto-sink", "--min=2", "--max=4", "--name=mine")
        operated.wait(lambda: operated.condition("Owned").get("reason") == "ForeignAutoscaler", "a refusal")
        operated.kubectl("scale", "deployment/crypto-sink", "--replicas=3")
        operated.wait(lambda: quiet(operated, 2), "quiet")
        assert operated.replicas("crypto-sink") == 3
        operated.kubectl("delete", "hpa", "mine")
        operated.wait(lambda: operated.replicas("crypto-sink") == 1, "its own replicas")
        operated.wait(lambda: operated.condition("Owned").get("status") == "True", "its own hand")

    def test_a_child_of_somebody_else_is_left_alone(self, operated: Operated) -> None:
        operated.kubectl("create", "configmap", "crypto-pipeline", "--from-literal=pipeline.yaml=mine")
        operated.start()
        operated.apply()
        operated.wait(lambda: operated.condition("Owned").get("reason") == "NameTaken", "a refusal")
        body = operated.get("configmap", "crypto-pipeline")
        assert body is not None
        assert body["data"] == {"pipeline.yaml": "mine"}
        assert operated.get("deployment", "crypto-sink") is None


class TestFaults:
    def test_an_unreachable_kafka_holds_a_new_pipeline_and_leaves_a_running_one(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.wait(lambda: operated.condition("KafkaReady").get("status") == "True", "a Kafka")
        operated.patch("k2pipeline", "crypto", {"spec": {"kafka": {"bootstrapServers": "127.0.0.1:1"}}})
        operated.wait(lambda: operated.condition("KafkaReady").get("reason") == "Unreachable", "a reason")
        sink = operated.get("deployment", "crypto-sink")
        assert sink is not None
        environment = {
            one["name"]: one.get("value") for one in sink["spec"]["template"]["spec"]["containers"][0]["env"]
        }
        assert environment["K2_KAFKA_BOOTSTRAP_SERVERS"] == operated.bootstrap_servers

    def test_a_missing_secret_is_named_and_awaited(self, operated: Operated) -> None:
        operated.start()
        operated.apply(query={"apiKeySecret": {"name": "keys", "key": "all"}})
        operated.wait(lambda: operated.condition("SecretsReady").get("reason") == "SecretUnusable", "a reason")
        assert "secret keys: there is none" in operated.condition("SecretsReady")["message"]
        assert operated.get("deployment", "crypto-query") is None
        operated.kubectl("create", "secret", "generic", "keys", "--from-literal=other=x")
        operated.wait(lambda: "no key all" in operated.condition("SecretsReady")["message"], "the key", 30)
        operated.kubectl("delete", "secret", "keys")
        operated.kubectl("create", "secret", "generic", "keys", "--from-literal=all=id.secret")
        operated.wait(lambda: operated.replicas("crypto-query"), "the query service", 30)

    def test_a_new_version_of_a_secret_rolls_the_pods(self, operated: Operated) -> None:
        operated.kubectl("create", "secret", "generic", "keys", "--from-literal=all=id.secret")
        operated.start()
        operated.apply(query={"apiKeySecret": {"name": "keys", "key": "all"}})
        operated.wait(lambda: operated.replicas("crypto-query"), "the query service")
        before = config_hash(operated, "crypto-query")
        operated.patch("secret", "keys", {"stringData": {"all": "id.another"}})
        operated.wait(lambda: config_hash(operated, "crypto-query") != before, "another hash", 30)

    def test_a_topic_with_too_few_partitions_grows_while_suspended(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 4}
        operated.apply(ingestion=[source])
        operated.wait(lambda: operated.condition("TopicsReady").get("reason") == "TooFewPartitions", "a reason")
        assert "set spec.suspend to true" in operated.condition("TopicsReady")["message"]
        assert operated.partitions() == 2
        body = operated.get("configmap", "crypto-pipeline")
        assert body is not None
        assert "partitions: 2" in body["data"]["pipeline.yaml"]
        operated.apply(ingestion=[source], suspend=True)
        operated.wait(lambda: operated.phase() == "Suspended", "a suspended pipeline")
        operated.wait(lambda: operated.partitions() == 4, "a grown topic")
        operated.apply(ingestion=[source], suspend=False)
        operated.wait(lambda: operated.condition("TopicsReady").get("status") == "True", "topics")
        operated.wait(lambda: operated.replicas("crypto-sink") == 1, "a sink")


def config_hash(operated: Operated, name: str) -> str:
    body = operated.get("deployment", name)
    assert body is not None
    return str(body["spec"]["template"]["metadata"]["annotations"]["k2.dev/config-hash"])


class TestStopping:
    def test_suspend_stops_ingestion_drains_and_stops_the_rest_and_resume_brings_all_back(
        self, operated: Operated
    ) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.wait(lambda: operated.condition("TopicsReady").get("status") == "True", "topics")
        operated.produce(5)
        operated.commit(3)
        operated.patch("k2pipeline", "crypto", {"spec": {"suspend": True}})
        operated.wait(lambda: operated.replicas("crypto-ingest-binance") == 0, "no ingest")
        operated.wait(lambda: operated.condition("SinkReady").get("reason") == "Draining", "a drain")
        operated.wait(lambda: "2 records" in operated.condition("SinkReady")["message"], "what is left")
        assert operated.replicas("crypto-sink") == 1
        operated.commit(5)
        operated.wait(lambda: operated.phase() == "Suspended", "a suspended pipeline")
        assert [operated.replicas(name) for name in DEPLOYMENTS] == [0, 0, 0]
        assert [name for name in operated.metrics() if "pipeline_condition" in name] == []
        operated.produce(1)  # another pipeline's: suspended stays suspended
        operated.wait(lambda: quiet(operated, 12), "quiet", 60)
        assert operated.phase() == "Suspended"
        operated.patch("k2pipeline", "crypto", {"spec": {"suspend": False}})
        operated.wait(lambda: [operated.replicas(name) for name in DEPLOYMENTS] == [1, 1, 1], "its replicas")

    def test_deletion_survives_the_operators_death_at_each_step(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.wait(lambda: operated.condition("TopicsReady").get("status") == "True", "topics")
        operated.produce(5)
        operated.commit(1)
        operated.kubectl("delete", "k2pipeline", "crypto", "--wait=false")
        operated.wait(lambda: operated.replicas("crypto-ingest-binance") == 0, "no ingest")
        operated.kill()
        operated.start()
        operated.wait(lambda: operated.condition("SinkReady").get("reason") == "Draining", "a drain")
        operated.kill()
        operated.start()
        operated.wait(lambda: reconciles(operated) > 1, "a look")
        assert operated.replicas("crypto-sink") == 1
        operated.kubectl("delete", "deployment", "crypto-sink")  # needed for the drain: it comes back
        operated.wait(lambda: operated.replicas("crypto-sink") == 1, "a sink")
        operated.commit(5)
        operated.wait(lambda: operated.replicas("crypto-sink") in {0, None}, "no sink")
        operated.kill()
        operated.start()
        operated.wait(lambda: operated.get("k2pipeline", "crypto") is None, "its end")
        kinds = "deployment,service,configmap,serviceaccount,poddisruptionbudget,networkpolicy"
        assert operated.kubectl("get", kinds, "-l", "k2.dev/pipeline=crypto", "-o", "name") == ""
        assert operated.partitions() == 2  # what is retained

    def test_an_annotation_skips_the_drain(self, operated: Operated) -> None:
        operated.start()
        operated.apply()
        running(operated)
        operated.wait(lambda: operated.condition("TopicsReady").get("status") == "True", "topics")
        operated.produce(5)
        operated.kubectl("delete", "k2pipeline", "crypto", "--wait=false")
        operated.wait(lambda: operated.condition("SinkReady").get("reason") == "Draining", "a drain")
        assert "an unknown number of records" in operated.condition("SinkReady")["message"]
        operated.kubectl("annotate", "k2pipeline", "crypto", "k2.dev/force-delete=true")
        operated.wait(lambda: operated.get("k2pipeline", "crypto") is None, "its end")

    def test_what_never_ran_goes_at_once(self, operated: Operated) -> None:
        operated.start()
        operated.apply(kafka={"bootstrapServers": "127.0.0.1:1"})
        operated.wait(lambda: "k2.dev/teardown" in finalizers(operated), "a finalizer")
        operated.kubectl("delete", "k2pipeline", "crypto", "--wait=false")
        operated.wait(lambda: operated.get("k2pipeline", "crypto") is None, "its end")


def finalizers(operated: Operated) -> list[str]:
    return list((operated.get("k2pipeline", "crypto") or {}).get("metadata", {}).get("finalizers", []))
