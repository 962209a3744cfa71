"""manifests/dev: servers that fit each other, the chart's values and kind; images by fixed tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from derived.__main__ import CHART, ROOT
from k2_core.spec import KafkaSpec, StorageSpec
from support.chart import Manifest, name_of, of_kind, parse, pods, run, tool

DEV: Final = ROOT / "manifests/dev"


@pytest.fixture(scope="module")
def manifests() -> Sequence[Manifest]:
    done = run(tool("kubectl"), "kustomize", DEV)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


@pytest.fixture(scope="module")
def values() -> Any:
    return yaml.safe_load((DEV / "k2-values.yaml").read_text())


def test_every_manifest_is_in_the_kustomization() -> None:
    listed = set(yaml.safe_load((DEV / "kustomization.yaml").read_text())["resources"])
    others = {path.name for path in DEV.glob("*-values.yaml")} | {"kustomization.yaml"}
    assert {path.name for path in DEV.iterdir()} == listed | others


def test_images_have_fixed_tags(manifests: Sequence[Manifest]) -> None:
    images = [container["image"] for _, pod in pods(manifests) for container in pod["spec"]["containers"]]
    assert len(images) == 5
    assert [image for image in images if not re.search(r":v?\d+\.\d+", image)] == []


def test_services_lead_to_ports_of_pods(manifests: Sequence[Manifest]) -> None:
    containers = {
        pod["metadata"]["labels"]["app.kubernetes.io/name"]: pod["spec"]["containers"][0] for _, pod in pods(manifests)
    }
    services = of_kind(manifests, "Service")
    assert len(services) == len(containers)
    for service in services:
        (port,) = service["spec"]["ports"]
        ports = containers[service["spec"]["selector"]["app.kubernetes.io/name"]]["ports"]
        # The same number on both sides: a NetworkPolicy sees the pod's port, a pipeline names the Service's.
        assert {"name": port["targetPort"], "containerPort": port["port"]} in ports


def addresses(values: Any) -> Iterator[tuple[str, int]]:
    kafka = KafkaSpec.model_validate(values["defaults"]["kafka"], by_alias=True, by_name=False)
    storage = StorageSpec.model_validate(values["defaults"]["storage"], by_alias=True, by_name=False)
    assert storage.s3 is not None
    secret = yaml.safe_load((DEV / "secrets.yaml").read_text())["stringData"]
    for url in (
        f"kafka://{kafka.bootstrap_servers}",
        kafka.schema_registry_url,
        storage.s3.endpoint,
        secret["catalog-uri"],
    ):
        parts = urlsplit(str(url))
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port


def test_the_charts_defaults_are_these_servers(manifests: Sequence[Manifest], values: Any) -> None:
    there = {
        (f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc", service["spec"]["ports"][0]["port"])
        for service in of_kind(manifests, "Service")
    }
    assert set(addresses(values)) <= there


def references(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if set(node) == {"name", "key"}:
            yield node["name"], node["key"]
        for value in node.values():
            yield from references(value)
    if isinstance(node, list):
        for item in node:
            yield from references(item)


def test_secrets_that_are_referred_to_are_there(manifests: Sequence[Manifest], values: Any) -> None:
    keys = {(found["metadata"]["name"], key) for found in of_kind(manifests, "Secret") for key in found["stringData"]}
    used = set(references(values)) | {found for _, pod in pods(manifests) for found in references(pod)}
    assert used == keys
    assert values["operator"]["secretNames"] == sorted({name for name, _ in references(values)})


def test_the_bucket_of_the_warehouse_is_there(manifests: Sequence[Manifest], values: Any) -> None:
    bucket = urlsplit(values["defaults"]["storage"]["warehouse"]).hostname
    (s3,) = [pod for name, pod in pods(manifests) if name == "Deployment/s3"]
    mounts = [mount["mountPath"] for mount in s3["spec"]["containers"][0]["volumeMounts"]]
    assert f"/data/{bucket}" in mounts


@pytest.mark.parametrize("part", ["requests", "limits"])
def test_servers_are_bounded(part: str, manifests: Sequence[Manifest]) -> None:
    for name, pod in pods(manifests):
        for container in pod["spec"]["containers"]:
            assert {"cpu", "memory", "ephemeral-storage"} == set(container["resources"][part]), name
            assert "readinessProbe" in container, name


def test_no_server_is_reached_from_outside(manifests: Sequence[Manifest]) -> None:
    types = {name_of(found): found["spec"].get("type", "ClusterIP") for found in of_kind(manifests, "Service")}
    assert set(types.values()) == {"ClusterIP"}, types
    assert of_kind(manifests, "Ingress") == []


def test_prometheus_selects_what_the_chart_makes() -> None:
    stack = yaml.safe_load((DEV / "kube-prometheus-stack-values.yaml").read_text())
    monitoring = yaml.safe_load((DEV / "k2-monitoring-values.yaml").read_text())["monitoring"]
    flags = {"serviceMonitor", "podMonitor", "prometheusRule", "dashboards"}
    assert {name for name in flags if monitoring[name]["enabled"]} == flags
    sidecar = stack["grafana"]["sidecar"]["dashboards"]
    chart = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["dashboards"]
    assert chart["additionalLabels"] == {sidecar["label"]: sidecar["labelValue"]}
    texts = [path.read_text() for path in (ROOT / "Tiltfile", DEV / "kube-prometheus-stack-values.yaml")]
    first, second = (re.findall(r"kube-prometheus-stack --version ([\d.]+)", text) for text in texts)
    assert first == second
    assert len(first) == 1


def test_kind_makes_the_cluster_that_the_tiltfile_allows() -> None:
    cluster = yaml.safe_load((ROOT / "manifests/kind.yaml").read_text())
    assert f"allow_k8s_contexts('kind-{cluster['name']}')" in (ROOT / "Tiltfile").read_text()
    assert cluster["networking"]["apiServerAddress"] == "127.0.0.1"
    assert all(re.fullmatch(r"kindest/node:v1\.\d+\.\d+", node["image"]) for node in cluster["nodes"])
