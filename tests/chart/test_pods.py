"""The chart's pods: as kube-score and Pod Security `restricted` want them, and configured as the operator reads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from derived.__main__ import CHART, GOLDEN, ROOT
from k2_core.spec import KafkaSpec, SecretKeyRef, StorageSpec
from k2_operator.config import load_config
from support.chart import VALUE_SETS, of_kind, pods, rendered, run, tool, value_set

SCORED: Final = [name for name in VALUE_SETS if name != "namespaced"]
"""Without a NetworkPolicy, as in `namespaced`, kube-score is right to complain."""
_SCORE: Final = ("score", "--kubernetes-version", "v1.35", "--output-format", "json")
_SECCOMP: Final = "container-seccomp-profile"
"""Not among kube-score's default checks."""
_WELL: Final = 10
"""kube-score's grade of a check without a complaint; 5 is a warning, 1 is critical."""


def complaints(manifests: Path) -> list[str]:
    done = run(tool("kube-score"), *_SCORE, "--enable-optional-test", _SECCOMP, manifests)
    results = [(found["object_name"], check) for found in json.loads(done.stdout) for check in found["checks"]]
    assert any(check["check"]["id"] == _SECCOMP for _, check in results)
    return [
        f"{name}: {check['check']['id']}: {comment['summary']}"
        for name, check in results
        if not check["skipped"] and check["grade"] < _WELL
        for comment in check["comments"] or [{"summary": "no comment"}]
    ]


@pytest.mark.parametrize("values", SCORED)
def test_kube_score_has_no_complaint(values: str) -> None:
    assert complaints(GOLDEN / f"{values}.yaml") == []


def test_kube_score_has_no_complaint_of_the_operators_children(tmp_path: Path) -> None:
    config = operator_file("everything", tmp_path)
    pipeline = yaml.safe_load((ROOT / "manifests/pipeline.yaml").read_text())
    # One replica of the API is the user's choice, and kube-score's complaint.
    pipeline["spec"]["query"]["replicas"] = 2
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    children = run(sys.executable, "-m", "k2_operator", "render", "-f", tmp_path / "pipeline.yaml", "--config", config)
    assert children.returncode == 0, children.stderr
    rendered_children = tmp_path / "children.yaml"
    rendered_children.write_text(children.stdout)
    assert complaints(rendered_children) == []


def test_kube_score_complains_of_a_trino_for_what_trino_is_alone(tmp_path: Path) -> None:
    config = operator_file("everything", tmp_path)
    pipeline = ROOT / "manifests/pipeline-distributed.yaml"
    children = run(sys.executable, "-m", "k2_operator", "render", "-f", pipeline, "--config", config)
    assert children.returncode == 0, children.stderr
    rendered_children = tmp_path / "children.yaml"
    rendered_children.write_text(children.stdout)
    found = {tuple(one.rpartition("/")[2].split(": ")[:2]) for one in complaints(rendered_children)}
    # Its image's user is 1000, and there is one coordinator, never two.
    user = "container-security-context-user-group-id"
    one = {("crypto-trino-coordinator", check) for check in ("deployment-strategy", "deployment-replicas")}
    assert found == one | {("crypto-trino-coordinator", user), ("crypto-trino-worker", user)}


@pytest.mark.parametrize("values", VALUE_SETS)
def test_no_pod_has_more_than_it_needs(values: str) -> None:
    found = list(pods(value_set(values)))
    assert [name for name, _ in found] == ["Deployment/k2-operator", "Pod/k2-test"]
    for _, pod in found:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["runAsUser"] == 65532
            assert set(container["resources"]) == {"requests", "limits"}


def test_there_is_one_operator_which_is_replaced() -> None:
    (deployment,) = of_kind(rendered(), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert of_kind(rendered(), "PodDisruptionBudget") == []


def operator_file(values: str, folder: Path) -> Path:
    (config,) = [found for found in of_kind(value_set(values), "ConfigMap") if "operator.yaml" in found["data"]]
    path = folder / "operator.yaml"
    path.write_text(config["data"]["operator.yaml"])
    return path


@pytest.mark.parametrize("values", VALUE_SETS)
def test_the_operator_can_read_its_configuration(values: str, tmp_path: Path) -> None:
    config = load_config(operator_file(values, tmp_path))
    given = yaml.safe_load((CHART.parents[1] / f"tests/chart/values/{values}.yaml").read_text())
    assert list(config.watch_namespaces) == given.get("watchNamespaces", [])
    (deployment,) = of_kind(value_set(values), "Deployment")
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert config.metrics_port == port["containerPort"]


def test_the_configuration_holds_the_values(tmp_path: Path) -> None:
    config = load_config(operator_file("everything", tmp_path))
    given = yaml.safe_load((ROOT / "tests/chart/values/everything.yaml").read_text())
    assert config.images.sink == "registry.example.com/k2/k2-sink:0.1.0"
    assert config.image_pull_policy == "Always"
    assert config.image_pull_secrets == ("registry",)
    assert config.resync_seconds == given["operator"]["resyncSeconds"]
    assert config.log_level == "DEBUG"
    assert config.defaults.kafka == KafkaSpec.model_validate(given["defaults"]["kafka"], by_alias=True, by_name=False)
    storage = StorageSpec.model_validate(given["defaults"]["storage"], by_alias=True, by_name=False)
    assert config.defaults.storage == storage
    assert config.defaults.api_key_secret == SecretKeyRef(name="api-keys", key="keys")


def test_a_changed_configuration_rolls_the_operator() -> None:
    def config_hash(*arguments: str) -> str:
        (deployment,) = of_kind(rendered(*arguments), "Deployment")
        annotations: dict[str, Any] = deployment["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["k2.dev/config-hash"])

    assert config_hash() == config_hash("--set", "operator.resources.limits.cpu=2")
    assert config_hash() != config_hash("--set", "operator.resyncSeconds=7")


def test_selectors_match_no_more_than_their_pods() -> None:
    operator, test = (pod["metadata"]["labels"] for _, pod in pods(rendered()))
    for manifest in of_kind(rendered(), "Service", "NetworkPolicy"):
        spec = manifest["spec"]
        wanted = spec["selector"] if manifest["kind"] == "Service" else spec["podSelector"]["matchLabels"]
        matched = [labels for labels in (operator, test) if wanted.items() <= labels.items()]
        assert matched == [test if manifest["metadata"]["name"] == "k2-test" else operator]
