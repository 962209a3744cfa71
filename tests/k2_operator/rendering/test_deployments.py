from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from k2_ingest.settings import IngestSettings
from k2_operator.names import CONFIG_HASH
from k2_query.__main__ import DRAIN_S
from k2_sink.settings import SinkSettings
from support.operator import container, distributed_body, one, rendered, secured_body

WORKLOADS = ("crypto-ingest-binance", "crypto-ingest-replay", "crypto-ingest-asx", "crypto-sink", "crypto-query")
FILE = {"name": "bhp-11", "path": "s3://ticks/asx/new.csv", "symbol": "BHP"}


def hashes(body: dict[str, Any] | None = None, versions: dict[str, str] | None = None) -> dict[str, str]:
    manifests = rendered(body, versions)
    return {
        name: one(manifests, "Deployment", name)["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH]
        for name in WORKLOADS
    }


def rolled(change: Callable[[dict[str, Any]], None]) -> set[str]:
    body = secured_body()
    change(body["spec"])
    before, after = hashes(), hashes(body)
    return {name for name in WORKLOADS if before[name] != after[name]}


def test_names_replicas_and_strategies() -> None:
    manifests = rendered()
    found = {
        item["metadata"]["name"]: (item["spec"]["replicas"], item["spec"]["strategy"]["type"])
        for item in manifests
        if item["kind"] == "Deployment"
    }
    assert found == {
        "crypto-ingest-binance": (1, "Recreate"),
        "crypto-ingest-replay": (1, "Recreate"),
        "crypto-ingest-asx": (1, "Recreate"),
        "crypto-sink": (2, "RollingUpdate"),
        "crypto-query": (3, "RollingUpdate"),
    }


def test_pods_may_take_longer_than_the_services_drain() -> None:
    def grace(name: str) -> int:
        seconds: int = one(rendered(), "Deployment", name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        return seconds

    assert grace("crypto-ingest-binance") > IngestSettings().ingest_flush_timeout_s
    assert grace("crypto-sink") > 2 * SinkSettings().sink_drain_timeout_s
    assert grace("crypto-query") > DRAIN_S + 5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda spec: spec["sink"].update(commitIntervalSeconds=5), {"crypto-sink"}, id="commit interval"),
        pytest.param(lambda spec: spec["sink"].update(replicas=3), set(), id="sink replicas"),
        pytest.param(lambda spec: spec["query"].update(replicas=1), set(), id="query replicas"),
        pytest.param(lambda spec: spec["query"].update(commitLagSeconds=5), {"crypto-query"}, id="commit lag"),
        pytest.param(
            lambda spec: spec["query"].update(mode="distributed", trino={"url": "http://trino:8080"}),
            {"crypto-query"},
            id="another engine",
        ),
        pytest.param(
            lambda spec: spec["ingestion"][0]["symbols"].append({"name": "BNBUSDT"}),
            {"crypto-ingest-binance", "crypto-sink"},
            id="a symbol",
        ),
        pytest.param(
            lambda spec: spec["ingestion"][0]["symbols"][0].update(priority="low"),
            {"crypto-sink"},
            id="another class",
        ),
        pytest.param(
            lambda spec: spec["ingestion"][2]["files"][0].update(priority="low"), {"crypto-sink"}, id="a file's class"
        ),
        pytest.param(
            lambda spec: spec["ingestion"][0]["symbols"][0].update(tickSize="0.01"),
            {"crypto-sink", "crypto-query"},
            id="reference data",
        ),
        pytest.param(
            lambda spec: spec.update(degradation={"drainRecordsPerSecond": 5}), {"crypto-sink"}, id="the drain's rate"
        ),
        pytest.param(lambda spec: spec.update(degradation={"dwellUpSeconds": 5}), set(), id="a dwell"),
        pytest.param(lambda spec: spec.update(scaling={"mode": "Auto"}), set(), id="scaling"),
        pytest.param(lambda spec: spec["ingestion"][1].update(partitions=8), set(WORKLOADS), id="partitions"),
        pytest.param(lambda spec: spec["ingestion"][2]["files"].append(FILE), {"crypto-ingest-asx"}, id="a file"),
        pytest.param(
            lambda spec: spec["storage"]["s3"].update(endpoint="http://other:9000"),
            {"crypto-ingest-asx", "crypto-sink", "crypto-query"},
            id="another object storage",
        ),
    ],
)
def test_a_change_rolls_the_pods_that_read_it(change: Callable[[dict[str, Any]], None], expected: set[str]) -> None:
    assert rolled(change) == expected


def test_another_step_rolls_the_same_pods() -> None:
    first, second = secured_body(), secured_body()
    first["spec"]["ingestion"][0]["symbols"][0] |= {"tickSize": "0.01", "stepSize": "1"}
    second["spec"]["ingestion"][0]["symbols"][0] |= {"tickSize": "0.01", "stepSize": "2"}
    before, after = hashes(first), hashes(second)
    assert {name for name in WORKLOADS if before[name] != after[name]} == {"crypto-sink", "crypto-query"}


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        pytest.param("kafka-login", set(WORKLOADS), id="kafka's login"),
        pytest.param("kafka-ca", set(WORKLOADS), id="kafka's CA"),
        pytest.param("s3", {"crypto-ingest-asx", "crypto-sink", "crypto-query"}, id="object storage"),
        pytest.param("api-keys", {"crypto-query"}, id="API keys"),
        pytest.param("of somebody else", set(), id="another secret"),
    ],
)
def test_a_new_version_of_a_secret_rolls_the_pods_that_use_it(secret: str, expected: set[str]) -> None:
    before, after = hashes(versions={secret: "1"}), hashes(versions={secret: "2"})
    assert {name for name in WORKLOADS if before[name] != after[name]} == expected


@pytest.mark.parametrize("secret", ["trino-login", "trino-ca"])
def test_a_new_secret_of_a_trino_rolls_the_query_service(secret: str) -> None:
    before, after = (hashes(distributed_body(), {secret: version}) for version in "12")
    assert {name for name in WORKLOADS if before[name] != after[name]} == {"crypto-query"}


def test_pods_are_found_by_labels_that_they_have() -> None:
    for name in WORKLOADS:
        spec = one(rendered(), "Deployment", name)["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_no_deployment_selects_anothers_pods() -> None:
    specs = [one(rendered(), "Deployment", name)["spec"] for name in WORKLOADS]
    for chooser in specs:
        chosen = [
            other
            for other in specs
            if chooser["selector"]["matchLabels"].items() <= other["template"]["metadata"]["labels"].items()
        ]
        assert chosen == [chooser]


@pytest.mark.parametrize(
    ("asked", "requests", "limits"),
    [
        pytest.param({"requests": {"cpu": "500m"}}, {"cpu": "500m", "memory": "1Gi"}, {"cpu": "2"}, id="one-amount"),
        pytest.param({"limits": {"memory": "3Gi"}}, {"memory": "1Gi"}, {"memory": "3Gi"}, id="a-limit"),
        pytest.param({"requests": {"cpu": "3"}}, {"cpu": "3"}, {"cpu": "3"}, id="a-request-above-the-default-limit"),
        pytest.param({"limits": {"memory": "512Mi"}}, {"memory": "512Mi"}, {"memory": "512Mi"}, id="a-limit-below-it"),
    ],
)
def test_what_the_user_asks_for_is_merged_into_the_defaults(
    asked: dict[str, dict[str, str]], requests: dict[str, str], limits: dict[str, str]
) -> None:
    body = secured_body()
    body["spec"].setdefault("sink", {})["resources"] = asked
    found = container(one(rendered(body), "Deployment", "crypto-sink"))["resources"]
    assert requests.items() <= found["requests"].items()
    assert limits.items() <= found["limits"].items()
    assert found["requests"]["ephemeral-storage"] == "64Mi"
