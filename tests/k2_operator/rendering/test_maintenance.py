from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from k2_operator.pipeline import effective
from k2_operator.rendering.environment import maintenance_environment
from k2_operator.rendering.network import egress_ports
from k2_query.settings import QuerySettings
from support.operator import (
    UID,
    distributed,
    distributed_body,
    one,
    operated_body,
    operator_config,
    rendered,
    secured_body,
)


def scheduled(schedule: str = "0 3 * * *", **query: object) -> dict[str, Any]:
    body = distributed_body()
    body["spec"]["maintenance"] = {"schedule": schedule}
    body["spec"]["query"] |= query
    return body


def cron_job(body: dict[str, Any]) -> dict[str, Any]:
    return one(rendered(body), "CronJob", "crypto-maintenance")


def test_it_runs_at_the_specs_time_and_never_twice_at_once() -> None:
    spec = cron_job(scheduled())["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Etc/UTC", "Forbid")
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0


def single() -> dict[str, Any]:
    body = secured_body()
    body["spec"]["maintenance"] = {"schedule": "0 3 * * *"}
    return body


@pytest.mark.parametrize("body", [single(), distributed_body()], ids=["mode single", "no schedule"])
def test_without_a_trino_or_a_schedule_there_is_none(body: dict[str, Any]) -> None:
    assert {item["metadata"]["name"] for item in rendered(body)}.isdisjoint({"crypto-maintenance"})


def test_pod_security_restricted() -> None:
    pod = cron_job(scheduled())["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [own] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (pod["automountServiceAccountToken"], pod["restartPolicy"]) == (False, "Never")
    assert own["securityContext"]["allowPrivilegeEscalation"] is False
    assert own["securityContext"]["readOnlyRootFilesystem"] is True
    assert own["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert own["command"] == ["python3", "-m", "k2_query.maintenance"]
    assert not {"ports", "startupProbe", "livenessProbe", "readinessProbe"} & own.keys()
    mounted = {mount["name"] for mount in own["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]} == {"pipeline", "tmp", "trino-ca"}


def test_it_knows_storage_and_trino_and_nothing_of_kafka_or_of_keys() -> None:
    found = {variable["name"]: variable for variable in maintenance_environment(distributed(), UID)}
    known = {"K2_" + name.upper() for name in QuerySettings.model_fields}
    assert {name for name in found if name.startswith("K2_")} <= known
    referred = {name for name, variable in found.items() if "valueFrom" in variable}
    assert referred == {"K2_CATALOG_URI", "K2_S3_ACCESS_KEY", "K2_S3_SECRET_KEY", "K2_TRINO_PASSWORD"}
    assert not [name for name in found if name.startswith(("K2_KAFKA", "K2_API"))]


def test_in_a_trino_of_the_operators_it_has_a_user_of_its_own_and_waits_until_that_answers() -> None:
    body = operated_body()
    body["spec"]["maintenance"] = {"schedule": "0 3 * * *"}
    own = cron_job(body)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    found = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in own["env"]}
    assert (found["K2_TRINO_USER"], found["K2_TRINO_CATALOG"]) == ("k2-maintenance", "k2_maintenance")
    assert found["K2_TRINO_PASSWORD"] == {"secretKeyRef": {"name": "trino-access", "key": "maintenancePassword"}}
    assert found["K2_TRINO_URL"] == "https://crypto-trino.markets.svc:8443"
    assert replace(effective(body, operator_config()), trino_answers=False).maintenance_schedule is None


def test_nothing_comes_in_and_out_go_storage_and_trino_alone() -> None:
    policy = one(rendered(scheduled()), "NetworkPolicy", "crypto-maintenance")["spec"]
    assert policy["ingress"] == []
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "maintenance"
    assert egress_ports(distributed(), "maintenance", None) == {8443, 9000, 443, 5432}


def test_its_account_is_its_own() -> None:
    pod = cron_job(scheduled())["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    account = one(rendered(scheduled()), "ServiceAccount", pod["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False


def test_what_is_not_its_own_changes_with_no_schedule() -> None:
    before, after = rendered(distributed_body()), rendered(scheduled())
    for kind, name in (("Deployment", "crypto-sink"), ("Deployment", "crypto-query")):
        assert one(before, kind, name) == one(after, kind, name)
