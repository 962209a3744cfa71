from __future__ import annotations

import re
from typing import Any

import pytest

from k2_operator.pipeline import Effective, effective
from k2_operator.rendering.environment import trino_environment
from k2_operator.rendering.trino_config import files, rules
from k2_query.maintenance.upkeep import TABLES
from support.operator import operated, operator_config, plain_body

CHANGES = ["SELECT", "INSERT", "DELETE", "UPDATE"]
REF = {"name": "s", "key": "k"}
REST = {
    "catalog": {"type": "rest", "uri": "http://catalog:8181"},
    "warehouse": "s3://lake/w",
    "s3": {"accessKeySecret": REF, "secretKeySecret": REF},
}


def over_rest() -> Effective:
    cluster = {"accessSecretName": "a", "tlsSecretName": "t"}
    query = {"mode": "distributed", "trinoCluster": cluster}
    return effective(plain_body(storage=REST, query=query), operator_config())


def texts(component: str, found: Effective | None = None, memory: str = "4Gi") -> dict[str, str]:
    found = found or operated()
    assert found.trino is not None
    return files(found, found.trino, component, memory)


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_what_is_secret_is_a_reference_that_the_pod_has() -> None:
    found = operated()
    assert found.trino is not None
    known = {one["name"] for one in trino_environment(found, found.trino)}
    for component in ("trino-coordinator", "trino-worker"):
        referred = set(re.findall(r"\$\{ENV:(\w+)\}", "".join(texts(component).values())))
        assert referred == known == {"K2_TRINO_SHARED_SECRET", "K2_S3_ACCESS_KEY", "K2_S3_SECRET_KEY"}


def test_nodes_talk_over_tls_and_only_the_coordinator_asks_for_passwords() -> None:
    coordinator, worker = (properties(texts(one)["config.properties"]) for one in ("trino-coordinator", "trino-worker"))
    for one in (coordinator, worker):
        assert one["http-server.http.enabled"] == "false"
        assert one["internal-communication.https.required"] == "true"
        assert one["discovery.uri"] == "https://crypto-trino-discovery.markets.svc:8443"
    assert (coordinator["coordinator"], worker["coordinator"]) == ("true", "false")
    assert coordinator["http-server.authentication.type"] == "PASSWORD"
    assert "http-server.authentication.type" not in worker
    assert worker["shutdown.grace-period"] == "15s"


def test_memory_is_divided_as_the_pod_has_it() -> None:
    found = texts("trino-coordinator", memory="8Gi")
    assert "-Xmx6144M\n" in found["jvm.config"]
    assert properties(found["config.properties"])["query.max-memory-per-node"] == "3686MB"


def test_the_catalog_is_the_pipelines_and_its_address_is_left_to_the_pod() -> None:
    found = properties(texts("trino-worker")["k2.properties"])
    assert found["iceberg.catalog.type"] == "jdbc"
    assert found["iceberg.jdbc-catalog.catalog-name"] == "k2"
    assert found["iceberg.jdbc-catalog.default-warehouse-dir"] == "s3://lake/warehouse"
    assert (found["s3.endpoint"], found["s3.path-style-access"]) == ("http://s3.storage:9000", "true")
    assert found["fs.cache.max-sizes"] == "8192MB"
    assert not [name for name in found if "connection" in name]


def test_who_maintains_has_a_catalog_of_the_same_tables_where_procedures_may_be_called() -> None:
    found = texts("trino-worker")
    reading, maintaining = properties(found["k2.properties"]), properties(found["k2_maintenance.properties"])
    assert reading.pop("iceberg.security") == "read_only"
    assert {name: value for name, value in reading.items() if not name.startswith("fs.cache")} == maintaining


def test_a_rest_catalog_of_aws_storage() -> None:
    found = properties(texts("trino-coordinator", over_rest())["k2.properties"])
    assert (found["iceberg.catalog.type"], found["iceberg.rest-catalog.warehouse"]) == ("rest", "s3://lake/w")
    assert "s3.endpoint" not in found
    assert found["fs.cache.max-sizes"] == "256MB"


@pytest.mark.parametrize(
    ("user", "catalog", "table", "expected"),
    [
        pytest.param("k2", "k2", "trades", ["SELECT"], id="the query service"),
        pytest.param("k2", "k2_maintenance", "trades", None, id="the query service where one maintains"),
        pytest.param("k2", "k2", "trades$snapshots", ["SELECT"], id="metadata"),
        pytest.param("k2", "k2", "other", None, id="a table of somebody else"),
        pytest.param("k2-maintenance", "k2_maintenance", "quality", CHANGES, id="maintenance"),
        pytest.param("k2-maintenance", "k2", "quality", None, id="maintenance where one reads"),
        pytest.param("k2-drain", "k2", "trades", None, id="who drains"),
        pytest.param("somebody", "k2", "trades", None, id="somebody"),
    ],
)
def test_who_may_do_what_with_a_table(user: str, catalog: str, table: str, expected: list[str] | None) -> None:
    def fits(rule: dict[str, Any]) -> bool:
        asked = {"user": user, "catalog": catalog, "schema": "market", "table": table}
        return all(re.fullmatch(rule.get(name, ".*"), value) for name, value in asked.items())

    found = next((rule["privileges"] for rule in rules(operated())["tables"] if fits(rule)), None)
    assert found == expected


def test_whatever_is_maintained_may_be_changed_by_the_one_who_maintains_and_by_nobody_else() -> None:
    effective = operated()
    for form in TABLES:
        for name in (form.name, f"{form.name}$files"):
            allowed = {
                one["user"]: one["privileges"] for one in rules(effective)["tables"] if re.fullmatch(one["table"], name)
            }
            assert allowed == {"k2": ["SELECT"], "k2-maintenance": CHANGES}
    assert not any(re.fullmatch(one["table"], "others") for one in rules(effective)["tables"])
