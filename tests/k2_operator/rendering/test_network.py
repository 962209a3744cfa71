from __future__ import annotations

from typing import Any

import pytest

from k2_operator.pipeline import effective
from k2_operator.rendering.network import egress_ports
from support.operator import distributed, one, operator_config, plain_body, rendered, secured


@pytest.mark.parametrize(
    ("component", "source", "expected"),
    [
        pytest.param("ingest", "binance", {9093, 9094, 8081, 9443, 443}, id="ingest"),
        pytest.param("ingest", "replay", {9093, 9094, 8081, 8080}, id="ingest of a test exchange"),
        pytest.param("ingest", "asx", {9093, 9094, 8081, 9000}, id="ingest of files"),
        pytest.param("sink", None, {9093, 9094, 8081, 9000, 443, 5432}, id="sink, catalog unknown"),
        pytest.param("query", None, {9093, 9094, 8081, 9000, 443, 5432}, id="query"),
    ],
)
def test_what_goes_out_is_what_the_pipeline_names(component: str, source: str | None, expected: set[int]) -> None:
    assert egress_ports(secured(), component, source) == expected


def test_files_of_aws_itself_are_behind_its_port() -> None:
    files = [{"name": "a", "path": "s3://ticks/a.csv", "symbol": "BHP"}]
    found = effective(plain_body(ingestion=[{"name": "asx", "venue": "asx", "files": files}]), operator_config())
    assert egress_ports(found, "ingest", "asx") == {9092, 443}


def test_only_the_query_service_reaches_a_trino() -> None:
    assert egress_ports(distributed(), "query", None) == egress_ports(secured(), "query", None) | {8443}
    assert egress_ports(distributed(), "sink", None) == egress_ports(secured(), "sink", None)


@pytest.mark.parametrize(
    ("uri", "port"),
    [
        pytest.param("postgresql+psycopg://k2@db/k2", 5432, id="PostgreSQL's own"),
        pytest.param("postgresql+psycopg://k2@db:5433/k2", 5433, id="another"),
    ],
)
def test_a_catalog_that_is_named_opens_its_port_alone(uri: str, port: int) -> None:
    storage = {"catalog": {"type": "sql", "uri": uri}, "warehouse": "file:///lake"}
    found = effective(plain_body(storage=storage), operator_config())
    assert egress_ports(found, "sink", None) == {9092, port}


def test_a_catalog_without_a_server_opens_nothing() -> None:
    storage = {"catalog": {"type": "sql", "uri": "sqlite:////lake/catalog.db"}, "warehouse": "file:///lake"}
    found = effective(plain_body(storage=storage), operator_config())
    assert egress_ports(found, "query", None) == {9092}


def ports(rule: dict[str, Any]) -> set[tuple[str, int]]:
    return {(port["protocol"], port["port"]) for port in rule["ports"]}


@pytest.mark.parametrize(
    ("name", "port"),
    [
        pytest.param("crypto-ingest-replay", 9400, id="ingest"),
        pytest.param("crypto-sink", 9400, id="sink"),
        pytest.param("crypto-query", 8000, id="query"),
    ],
)
def test_only_the_port_that_answers_is_open(name: str, port: int) -> None:
    spec = one(rendered(), "NetworkPolicy", name)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    [rule] = spec["ingress"]
    assert ports(rule) == {("TCP", port)}
    assert ports(spec["egress"][0]) == {("UDP", 53), ("TCP", 53)}
    workload = one(rendered(), "Deployment", name)["spec"]
    assert spec["podSelector"]["matchLabels"] == workload["selector"]["matchLabels"]
