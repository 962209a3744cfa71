from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from k2_core.config import ServiceSettings
from k2_operator.pipeline import effective
from k2_operator.rendering.deployments import Inputs
from k2_operator.rendering.environment import removal_environment
from k2_operator.rendering.manifests import render_removal
from k2_operator.rendering.network import egress_ports
from support.operator import (
    UID,
    distributed_body,
    one,
    operator_config,
    rendered,
    secured,
    secured_body,
)


def made(body: Mapping[str, Any] | None = None, versions: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    config = operator_config()
    return render_removal(Inputs(effective(body or secured_body(), config), config, UID, versions or {}))


def job(body: Mapping[str, Any] | None = None, versions: Mapping[str, str] | None = None) -> dict[str, Any]:
    return one(made(body, versions), "Job", "crypto-removal")


def test_the_job_comes_last_and_all_are_the_pipelines() -> None:
    found = made()
    assert [item["kind"] for item in found] == ["ServiceAccount", "ConfigMap", "NetworkPolicy", "Job"]
    assert {owner["uid"] for item in found for owner in item["metadata"]["ownerReferences"]} == {UID}
    assert all(item["metadata"]["labels"]["k2.dev/pipeline"] == "crypto" for item in found)


def test_a_pipeline_that_runs_has_nothing_of_it() -> None:
    assert not [item for item in rendered() if item["kind"] == "Job" or "removal" in item["metadata"]["name"]]


def test_its_file_is_that_of_the_services() -> None:
    assert one(made(), "ConfigMap", "crypto-pipeline") == one(rendered(), "ConfigMap", "crypto-pipeline")


def test_it_is_tried_again_in_its_pod_until_it_has_succeeded() -> None:
    spec = job()["spec"]
    assert spec["backoffLimit"] == 2_147_483_647
    assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert "activeDeadlineSeconds" not in spec


def test_pod_security_restricted() -> None:
    pod = job()["spec"]["template"]["spec"]
    [own] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert own["securityContext"]["allowPrivilegeEscalation"] is False
    assert own["securityContext"]["readOnlyRootFilesystem"] is True
    assert own["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert own["command"] == ["python3", "-m", "k2_sink.removal"]
    assert own["image"] == operator_config().images.sink
    assert not {"ports", "startupProbe", "livenessProbe", "readinessProbe"} & own.keys()
    assert {volume["name"] for volume in pod["volumes"]} == {"pipeline", "tmp"}


@pytest.mark.parametrize("body", [secured_body(), distributed_body()], ids=["single", "distributed"])
def test_it_knows_storage_and_nothing_else(body: dict[str, Any]) -> None:
    found = {variable["name"]: variable for variable in removal_environment(effective(body, operator_config()), UID)}
    known = {"K2_" + name.upper() for name in ServiceSettings.model_fields}
    assert {name for name in found if name.startswith("K2_")} <= known
    assert found["K2_PIPELINE_UID"]["value"] == UID
    referred = {name for name, variable in found.items() if "valueFrom" in variable}
    assert referred == {"K2_CATALOG_URI", "K2_S3_ACCESS_KEY", "K2_S3_SECRET_KEY"}
    assert not [name for name in found if name.startswith(("K2_KAFKA", "K2_API", "K2_TRINO", "K2_SCHEMA"))]


def test_nothing_comes_in_and_out_goes_storage_alone() -> None:
    policy = one(made(), "NetworkPolicy", "crypto-removal")["spec"]
    assert policy["ingress"] == []
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "removal"
    assert egress_ports(secured(), "removal", None) == {9000, 443, 5432}


def test_its_account_is_its_own_and_has_no_token() -> None:
    account = one(made(), "ServiceAccount", job()["spec"]["template"]["spec"]["serviceAccountName"])
    assert account["metadata"]["name"] == "crypto-removal"
    assert account["automountServiceAccountToken"] is False


def test_another_version_of_its_secrets_makes_another_job_and_other_secrets_do_not() -> None:
    [variable] = [one for one in removal_environment(secured(), UID) if one["name"] == "K2_S3_ACCESS_KEY"]
    name = variable["valueFrom"]["secretKeyRef"]["name"]
    signed = [
        found["metadata"]["annotations"]["k2.dev/rendered-hash"]
        for found in (job(), job(versions={name: "2"}), job(versions={"another": "2"}))
    ]
    assert signed[0] != signed[1]
    assert signed[0] == signed[2]
