"""k2_cli.environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from k2_cli.environment import folder_settings, reader_settings, service_environment
from k2_cli.folder import StateFolder
from k2_core.errors import SpecError
from k2_core.spec import Pipeline, parse_pipeline

SECRETS = {
    "K2_KAFKA_SASL_USERNAME": "me",
    "K2_KAFKA_SASL_PASSWORD": "kafka-secret",
    "K2_S3_ACCESS_KEY": "access",
    "K2_S3_SECRET_KEY": "s3-secret",
    "K2_CATALOG_URI": "postgresql+psycopg2://u:p@db/k2",
}


def pipeline(**spec: Any) -> Pipeline:
    source = {"name": "b", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    return parse_pipeline(
        {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": "p"},
            "spec": {"ingestion": [source], **spec},
        }
    )


def environment(spec: Mapping[str, Any], base: Mapping[str, str], root: Path = Path("/d")) -> dict[str, str]:
    return service_environment(pipeline(**spec), StateFolder(root), "127.0.0.1:1", Path("/d/pipeline.yaml"), base)


SECRET_REF = {"name": "s", "key": "k"}
KAFKA = {
    "bootstrapServers": "a:9092,b:9092",
    "schemaRegistryUrl": "http://registry:8081",
    "tls": {},
    "sasl": {"mechanism": "SCRAM-SHA-512", "usernameSecret": SECRET_REF, "passwordSecret": SECRET_REF},
}
STORAGE = {
    "catalog": {"type": "sql", "uriSecret": SECRET_REF},
    "warehouse": "s3://lake/k2",
    "s3": {"endpoint": "http://s3:9000", "accessKeySecret": SECRET_REF, "secretKeySecret": SECRET_REF},
}


def test_what_the_pipeline_leaves_out_is_embedded(tmp_path: Path) -> None:
    found = environment({}, {"PATH": "/bin"}, tmp_path)
    assert found == {
        "PATH": "/bin",
        "PYTHONUNBUFFERED": "1",
        "K2_PIPELINE_FILE": "/d/pipeline.yaml",
        "K2_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "K2_CATALOG_URI": f"sqlite:///{tmp_path}/catalog.db?timeout=30",
        "K2_WAREHOUSE": f"file://{tmp_path}/warehouse",
    }


def test_stray_variables_of_the_user_do_not_reach_a_service() -> None:
    found = environment({}, {"K2_WAREHOUSE": "s3://elsewhere", "K2_INGEST_URL": "ws://x", "K2_LOG_LEVEL": "DEBUG"})
    assert found["K2_WAREHOUSE"] == "file:///d/warehouse"
    assert "K2_INGEST_URL" not in found
    assert found["K2_LOG_LEVEL"] == "DEBUG"


def test_a_named_kafka_is_used_with_the_users_secrets() -> None:
    found = environment({"kafka": KAFKA}, SECRETS | {"K2_KAFKA_CA_FILE": "/ca.pem"})
    assert found["K2_KAFKA_BOOTSTRAP_SERVERS"] == "a:9092,b:9092"
    assert found["K2_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert found["K2_KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
    assert found["K2_KAFKA_SASL_PASSWORD"] == SECRETS["K2_KAFKA_SASL_PASSWORD"]
    assert found["K2_KAFKA_CA_FILE"] == "/ca.pem"
    assert found["K2_KAFKA_REPLICATION_FACTOR"] == "3"
    assert found["K2_SCHEMA_REGISTRY_URL"] == "http://registry:8081"


@pytest.mark.parametrize(
    ("more", "protocol"),
    [
        pytest.param({}, "PLAINTEXT", id="plain"),
        pytest.param({"tls": {}}, "SSL", id="tls"),
        pytest.param({"tls": {"enabled": False}}, "PLAINTEXT", id="tls off"),
        pytest.param({"sasl": KAFKA["sasl"]}, "SASL_PLAINTEXT", id="sasl"),
    ],
)
def test_the_protocol_follows_from_tls_and_sasl(more: dict[str, Any], protocol: str) -> None:
    found = environment({"kafka": {"bootstrapServers": "a:1", **more}}, SECRETS)
    assert found["K2_KAFKA_SECURITY_PROTOCOL"] == protocol


def test_a_named_storage_is_used_with_the_users_secrets() -> None:
    found = environment({"storage": STORAGE}, SECRETS)
    assert found["K2_CATALOG_URI"] == SECRETS["K2_CATALOG_URI"]
    assert found["K2_WAREHOUSE"] == "s3://lake/k2"
    assert found["K2_QUERY_CACHE_DIR"] == "/d/cache"
    moved = environment({"storage": STORAGE}, SECRETS | {"K2_QUERY_CACHE_DIR": "/fast"})
    assert moved["K2_QUERY_CACHE_DIR"] == "/fast"
    assert (found["K2_S3_ENDPOINT"], found["K2_S3_REGION"]) == ("http://s3:9000", "us-east-1")
    assert found["K2_S3_SECRET_KEY"] == SECRETS["K2_S3_SECRET_KEY"]


def test_a_catalog_without_a_secret_and_storage_without_s3() -> None:
    storage = {"catalog": {"type": "rest", "uri": "http://rest:8181"}, "warehouse": "file:///w"}
    found = environment({"storage": storage}, {})
    assert (found["K2_CATALOG_TYPE"], found["K2_CATALOG_URI"]) == ("rest", "http://rest:8181")
    assert "K2_S3_REGION" not in found


@pytest.mark.parametrize(
    ("spec", "absent", "path"),
    [
        pytest.param({"kafka": KAFKA}, "K2_KAFKA_SASL_PASSWORD", "spec.kafka.sasl.passwordSecret", id="kafka"),
        pytest.param(
            {"kafka": {"bootstrapServers": "a:1", "tls": {"caSecret": SECRET_REF}}},
            "K2_KAFKA_CA_FILE",
            "spec.kafka.tls.caSecret",
            id="authority",
        ),
        pytest.param({"storage": STORAGE}, "K2_CATALOG_URI", "spec.storage.catalog.uriSecret", id="catalog"),
        pytest.param({"storage": STORAGE}, "K2_S3_SECRET_KEY", "spec.storage.s3.secretKeySecret", id="s3"),
    ],
)
def test_a_missing_secret_is_named_with_its_place_and_variable(spec: dict[str, Any], absent: str, path: str) -> None:
    base = {name: value for name, value in SECRETS.items() if name != absent}
    with pytest.raises(SpecError, match=f"{path}: found no variable {absent}"):
        environment(spec, base)


TRINO = {"url": "https://trino:8443", "catalog": "lake", "user": "desk", "passwordSecret": SECRET_REF}


def test_a_named_trino_is_used_with_the_users_secrets() -> None:
    query = {"mode": "distributed", "trino": TRINO | {"caSecret": SECRET_REF}}
    secrets = SECRETS | {"K2_TRINO_PASSWORD": "hush", "K2_TRINO_CA_FILE": "/ca.pem", "K2_TRINO_TOKEN": "not asked for"}
    found = environment({"storage": STORAGE, "query": query}, secrets)
    assert {name: value for name, value in found.items() if name.startswith("K2_TRINO")} == {
        "K2_TRINO_URL": "https://trino:8443",
        "K2_TRINO_CATALOG": "lake",
        "K2_TRINO_USER": "desk",
        "K2_TRINO_PASSWORD": "hush",
        "K2_TRINO_CA_FILE": "/ca.pem",
    }


def test_a_trino_without_its_password_is_refused() -> None:
    spec = {"storage": STORAGE, "query": {"mode": "distributed", "trino": TRINO}}
    with pytest.raises(SpecError, match=r"spec\.query\.trino\.passwordSecret: found no variable K2_TRINO_PASSWORD"):
        environment(spec, SECRETS)


@pytest.mark.parametrize("query", [{}, {"trinoCluster": {"workers": {"replicas": 3}}}], ids=["default", "described"])
def test_a_laptop_runs_no_trino(query: dict[str, object]) -> None:
    spec = {"query": {"mode": "distributed"} | query}
    expected = r"^spec\.query\.trino\.url: found none for mode distributed, expected the address of a Trino that runs"
    with pytest.raises(SpecError, match=expected):
        environment(spec, {})


def test_a_trino_cannot_read_what_is_embedded() -> None:
    spec = {"query": {"mode": "distributed", "trino": {"url": "http://trino:8080"}}}
    with pytest.raises(SpecError, match=r"^spec\.query\.mode: found distributed without spec\.storage, expected a cat"):
        environment(spec, {})


def test_s3_without_an_endpoint_is_amazons() -> None:
    storage = STORAGE | {"s3": {"accessKeySecret": SECRET_REF, "secretKeySecret": SECRET_REF}}
    assert "K2_S3_ENDPOINT" not in environment({"storage": storage}, SECRETS)


def test_commands_read_with_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_WAREHOUSE", "s3://not-this-one")
    settings = folder_settings(pipeline(), StateFolder(tmp_path), "127.0.0.1:7")
    assert settings.warehouse == f"file://{tmp_path}/warehouse"
    assert settings.kafka_bootstrap_servers == "127.0.0.1:7"
    with_secret = reader_settings({"K2_CATALOG_URI": "sqlite://", "K2_UNKNOWN": "x", "PATH": "y"})
    assert with_secret.catalog_uri is not None
    assert "sqlite" not in repr(with_secret)
