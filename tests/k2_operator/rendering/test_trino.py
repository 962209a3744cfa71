from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from k2_core.quantity import quantity_value
from k2_operator.names import CONFIG_HASH
from k2_operator.pipeline import Effective
from k2_operator.rendering.deployments import Inputs
from k2_operator.rendering.manifests import render
from k2_operator.rendering.trino_config import SHUTDOWN_GRACE_S
from k2_query.trino_files import TrinoFilesSettings
from support.operator import UID, container, one, operated, operator_config, rendered, secured_body

NODES = ("crypto-trino-coordinator", "crypto-trino-worker")
by_node = pytest.mark.parametrize("node", NODES)


def made(found: Effective | None = None, versions: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return render(Inputs(found or operated(), operator_config(), UID, versions or {}))


def pod(node: str, manifests: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = one(manifests or made(), "Deployment", node)["spec"]["template"]["spec"]
    return found


def rolled(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> set[str]:
    def hashes(manifests: list[dict[str, Any]]) -> dict[str, str]:
        return {
            item["metadata"]["name"]: item["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH]
            for item in manifests
            if item["kind"] == "Deployment"
        }

    old, new = hashes(before), hashes(after)
    return {name for name in new if old.get(name) != new[name]}


def test_what_a_trino_adds_to_a_pipeline() -> None:
    def named(manifests: list[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(item["kind"], item["metadata"]["name"]) for item in manifests}

    kinds = ("ServiceAccount", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Deployment")
    services = {("Service", "crypto-trino"), ("Service", "crypto-trino-discovery")}
    assert (
        named(made()) - named(rendered(secured_body())) == {(kind, node) for kind in kinds for node in NODES} | services
    )


def test_one_coordinator_and_as_many_workers_as_asked_for() -> None:
    manifests = made(operated(workers={"replicas": 3}))
    found = [one(manifests, "Deployment", node)["spec"] for node in NODES]
    assert [(spec["replicas"], spec["strategy"]["type"]) for spec in found] == [(1, "Recreate"), (3, "RollingUpdate")]


@by_node
def test_pod_security_restricted(node: str) -> None:
    found = pod(node)
    assert found["securityContext"] | {"runAsNonRoot": True, "runAsUser": 1000} == found["securityContext"]
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["automountServiceAccountToken"] is False
    for container_ in (*found["initContainers"], *found["containers"]):
        own = container_["securityContext"]
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        for part in ("requests", "limits"):
            assert container_["resources"][part].keys() == {"cpu", "memory", "ephemeral-storage"}
    volumes = {kind for volume in found["volumes"] for kind in volume if kind != "name"}
    assert volumes <= {"configMap", "emptyDir", "secret"}


@by_node
def test_what_a_node_writes_has_a_size_that_its_limit_has_room_for(node: str) -> None:
    found = pod(node, made(operated(cacheSize="20Gi")))
    sizes = {one["name"]: one["emptyDir"] for one in found["volumes"] if "emptyDir" in one}
    assert sizes.keys() == {"files", "data", "cache", "tmp"}
    assert sizes["files"]["medium"] == "Memory"
    disk = sum(quantity_value(size["sizeLimit"]) for size in sizes.values() if "medium" not in size)
    assert disk < quantity_value(found["containers"][0]["resources"]["limits"]["ephemeral-storage"])
    if node.endswith("worker"):
        assert quantity_value(sizes["cache"]["sizeLimit"]) > quantity_value("20Gi")


@by_node
def test_secrets_are_referred_to_and_never_written(node: str) -> None:
    found = pod(node)
    program, trino = found["initContainers"][0]["env"], found["containers"][0]["env"]
    known = {"K2_" + name.upper() for name in TrinoFilesSettings.model_fields}
    assert {one["name"] for one in program} <= known
    secret = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in (*program, *trino) if "valueFrom" in one}
    expected = {
        "K2_CATALOG_URI": {"name": "catalog", "key": "uri"},
        "K2_TRINO_SHARED_SECRET": {"name": "trino-access", "key": "sharedSecret"},
        "K2_S3_ACCESS_KEY": {"name": "s3", "key": "access"},
        "K2_S3_SECRET_KEY": {"name": "s3", "key": "secret"},
    }
    if node.endswith("coordinator"):
        expected |= {
            "K2_TRINO_PASSWORD": {"name": "trino-access", "key": "password"},
            "K2_TRINO_MAINTENANCE_PASSWORD": {"name": "trino-access", "key": "maintenancePassword"},
        }
    assert secret == expected
    mounted = [volume["secret"]["secretName"] for volume in found["volumes"] if "secret" in volume]
    assert mounted == (["trino-tls"] if node.endswith("coordinator") else [])


def test_a_worker_ends_when_its_queries_have() -> None:
    worker, coordinator = pod(NODES[1], made(operated(gracePeriodSeconds=90))), pod(NODES[0])
    assert worker["terminationGracePeriodSeconds"] == 90
    assert 2 * SHUTDOWN_GRACE_S < 60
    assert worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["/bin/sh", "/etc/trino/drain.sh"]
    assert "lifecycle" not in coordinator["containers"][0]
    files = [{item["key"] for item in one["volumes"][0]["configMap"]["items"]} for one in (coordinator, worker)]
    assert files[1] - files[0] == {"drain.sh"}
    assert files[0] - files[1] == {"password-authenticator.properties"}


@by_node
def test_probes_ask_whether_it_works_not_whether_it_listens(node: str) -> None:
    own = pod(node)["containers"][0]
    for name in ("startupProbe", "readinessProbe"):
        assert own[name]["exec"]["command"] == ["/bin/sh", "/etc/trino/ready.sh"]
    assert own["livenessProbe"]["httpGet"] == {"path": "/v1/info", "port": "https", "scheme": "HTTPS"}
    script = one(made(), "ConfigMap", node)["data"]["ready.sh"]
    assert '"starting":false' in script


def test_who_reaches_trino_and_whom_it_reaches() -> None:
    def callers(node: str) -> set[str]:
        [rule] = one(made(), "NetworkPolicy", node)["spec"]["ingress"]
        [peer] = rule["from"]
        assert peer["podSelector"]["matchLabels"] == {"k2.dev/pipeline": "crypto"}
        [chosen] = peer["podSelector"]["matchExpressions"]
        return set(chosen["values"])

    nodes = {"trino-coordinator", "trino-worker"}
    assert callers(NODES[0]) == nodes | {"query", "maintenance"}
    assert callers(NODES[1]) == nodes
    for node in NODES:
        _, trino, storage = one(made(), "NetworkPolicy", node)["spec"]["egress"]
        assert {port["port"] for port in trino["ports"]} == {8443}
        assert set(trino["to"][0]["podSelector"]["matchExpressions"][0]["values"]) == nodes
        assert {port["port"] for port in storage["ports"]} == {9000, 443, 5432}


def test_nodes_find_the_coordinators_pod_while_it_starts() -> None:
    spec = one(made(), "Service", "crypto-trino-discovery")["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
    usual = one(made(), "Service", "crypto-trino")["spec"]
    assert "publishNotReadyAddresses" not in usual
    chosen = one(made(), "Deployment", NODES[0])["spec"]["selector"]["matchLabels"]
    assert spec["selector"] == usual["selector"] == chosen


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        pytest.param("trino-access", {*NODES, "crypto-query"}, id="passwords"),
        pytest.param("trino-tls", {*NODES, "crypto-query"}, id="certificate"),
        pytest.param("catalog", {*NODES, "crypto-query", "crypto-sink"}, id="catalog"),
        pytest.param("api-keys", {"crypto-query"}, id="API keys"),
    ],
)
def test_a_new_version_of_a_secret_rolls_what_reads_it(secret: str, expected: set[str]) -> None:
    assert rolled(made(versions={secret: "1"}), made(versions={secret: "2"})) == expected


def test_memory_rolls_its_node_and_another_number_of_workers_rolls_nothing() -> None:
    bigger = operated(workers={"resources": {"limits": {"memory": "8Gi"}}})
    assert rolled(made(), made(bigger)) == {NODES[1]}
    assert rolled(made(), made(operated(workers={"replicas": 5}))) == set()


def test_until_trino_answers_the_query_service_is_as_it_was() -> None:
    waiting = made(replace(operated(), trino_answers=False))
    single = rendered(secured_body())
    assert rolled(single, waiting) == set(NODES)
    assert one(waiting, "ConfigMap", "crypto-pipeline") == one(single, "ConfigMap", "crypto-pipeline")
    assert rolled(single, made()) == {*NODES, "crypto-query"}
    values = {item["name"]: item.get("value") for item in container(one(made(), "Deployment", "crypto-query"))["env"]}
    assert values["K2_TRINO_URL"] == "https://crypto-trino.markets.svc:8443"
