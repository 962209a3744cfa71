from __future__ import annotations

from typing import Any

import pytest

from k2_core.quantity import quantity_value
from support.operator import container, distributed_body, one, rendered

WORKLOADS = [item for item in rendered() if item["kind"] == "Deployment"]
by_name = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda item: item["metadata"]["name"])


@by_name
def test_pod_security_restricted(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    own = container(workload)["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    volumes = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert volumes <= {"configMap", "emptyDir", "secret"}


@by_name
def test_the_only_writable_place_has_a_size(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    [tmp] = [volume for volume in pod["volumes"] if volume["name"] == "tmp"]
    assert tmp["emptyDir"].keys() == {"sizeLimit"}
    size = quantity_value(tmp["emptyDir"]["sizeLimit"])
    # The kubelet counts an emptyDir and the logs towards the limit: one that is reached first would evict the pod.
    assert size < quantity_value(container(workload)["resources"]["limits"]["ephemeral-storage"])
    writable = [mount["mountPath"] for mount in container(workload)["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]


def test_the_query_services_cache_of_files_fits_into_its_tmp() -> None:
    workload = one(rendered(), "Deployment", "crypto-query")
    values = {variable["name"]: variable.get("value") for variable in container(workload)["env"]}
    [tmp] = [volume for volume in workload["spec"]["template"]["spec"]["volumes"] if volume["name"] == "tmp"]
    assert int(values["K2_QUERY_CACHE_BYTES"]) < quantity_value(tmp["emptyDir"]["sizeLimit"])


@by_name
def test_probes_differ_and_ask_the_port_that_is_open(workload: dict[str, Any]) -> None:
    own = container(workload)
    [port] = own["ports"]
    paths = {name: own[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert {own[name]["httpGet"]["port"] for name in paths} == {port["name"]}
    assert own["terminationMessagePath"] == "/dev/termination-log"


@by_name
def test_the_ca_of_kafka_is_mounted_where_the_environment_says(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    [ca] = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "kafka-ca"]
    assert ca == {"secretName": "kafka-ca", "items": [{"key": "tls.crt", "path": "ca.crt"}]}
    [path] = [mount["mountPath"] for mount in container(workload)["volumeMounts"] if mount["name"] == "kafka-ca"]
    assert path == "/etc/k2/kafka-ca"


@by_name
def test_every_container_has_requests_and_limits(workload: dict[str, Any]) -> None:
    resources = container(workload)["resources"]
    for part in ("requests", "limits"):
        assert resources[part].keys() == {"cpu", "memory", "ephemeral-storage"}


@by_name
def test_pull_secrets_and_policy_are_the_operators(workload: dict[str, Any]) -> None:
    assert workload["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert container(workload)["imagePullPolicy"] == "Always"


def test_the_ca_of_a_trino_is_mounted_in_the_query_service_alone() -> None:
    manifests = rendered(distributed_body())
    mounts = {
        item["metadata"]["name"]: [
            (volume["secret"], mount["mountPath"])
            for volume in item["spec"]["template"]["spec"]["volumes"]
            for mount in container(item)["volumeMounts"]
            if volume["name"] == mount["name"] == "trino-ca"
        ]
        for item in manifests
        if item["kind"] == "Deployment"
    }
    secret = {"secretName": "trino-ca", "items": [{"key": "ca.pem", "path": "ca.crt"}]}
    assert mounts.pop("crypto-query") == [(secret, "/etc/k2/trino-ca")]
    assert not any(mounts.values())
