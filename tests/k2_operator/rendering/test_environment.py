from __future__ import annotations

from typing import Any

import pytest

from k2_core.config import ServiceSettings
from k2_ingest.settings import IngestSettings
from k2_operator.pipeline import effective
from k2_operator.rendering.environment import ingest_environment, query_environment, sink_environment
from k2_query.settings import QuerySettings
from k2_sink.settings import SinkSettings
from support.operator import UID, distributed, operator_config, plain_body, secured

SECRETS_OF_STORAGE = {"K2_CATALOG_URI", "K2_S3_ACCESS_KEY", "K2_S3_SECRET_KEY"}


def values(environment: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in environment}


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        pytest.param(IngestSettings, ingest_environment(secured(), UID, "replay"), id="ingest"),
        pytest.param(IngestSettings, ingest_environment(secured(), UID, "asx"), id="ingest of files"),
        pytest.param(SinkSettings, sink_environment(secured(), UID), id="sink"),
        pytest.param(QuerySettings, query_environment(secured(), UID), id="query"),
        pytest.param(QuerySettings, query_environment(distributed(), UID), id="query with Trino"),
    ],
)
def test_every_variable_is_one_that_the_service_knows(
    settings: type[ServiceSettings], environment: list[dict[str, Any]]
) -> None:
    known = {"K2_" + name.upper() for name in settings.model_fields}
    own = {name for name in values(environment) if name.startswith("K2_")}
    assert own - known == set()


def test_secrets_stand_by_reference_only() -> None:
    found = values(query_environment(secured(), UID))
    assert found["K2_KAFKA_SASL_PASSWORD"] == {"secretKeyRef": {"name": "kafka-login", "key": "password"}}
    assert found["K2_KAFKA_SASL_USERNAME"] == {"secretKeyRef": {"name": "kafka-login", "key": "user"}}
    assert found["K2_CATALOG_URI"] == {"secretKeyRef": {"name": "catalog", "key": "uri"}}
    assert found["K2_S3_ACCESS_KEY"] == {"secretKeyRef": {"name": "s3", "key": "access"}}
    assert found["K2_S3_SECRET_KEY"] == {"secretKeyRef": {"name": "s3", "key": "secret"}}
    assert found["K2_API_KEYS"] == {"secretKeyRef": {"name": "api-keys", "key": "keys"}}


def test_the_ingest_sees_no_secret_of_the_storage_and_only_the_query_service_sees_api_keys() -> None:
    assert SECRETS_OF_STORAGE & values(ingest_environment(secured(), UID, "binance")).keys() == set()
    assert "K2_API_KEYS" not in values(sink_environment(secured(), UID))


def test_the_ingest_of_files_sees_object_storage_and_no_catalog() -> None:
    found = values(ingest_environment(secured(), UID, "asx"))
    assert found["K2_S3_ACCESS_KEY"] == {"secretKeyRef": {"name": "s3", "key": "access"}}
    assert found["K2_S3_SECRET_KEY"] == {"secretKeyRef": {"name": "s3", "key": "secret"}}
    assert (found["K2_S3_ENDPOINT"], found["K2_S3_REGION"]) == ("http://s3.storage:9000", "us-east-1")
    assert not {name for name in found if "CATALOG" in name or name == "K2_WAREHOUSE"}


def test_only_the_query_service_knows_of_a_trino() -> None:
    found = values(query_environment(distributed(), UID))
    assert {name: value for name, value in found.items() if name.startswith("K2_TRINO")} == {
        "K2_TRINO_URL": "https://trino.analytics:8443",
        "K2_TRINO_CATALOG": "lake",
        "K2_TRINO_USER": "k2-crypto",
        "K2_TRINO_CA_FILE": "/etc/k2/trino-ca/ca.crt",
        "K2_TRINO_PASSWORD": {"secretKeyRef": {"name": "trino-login", "key": "password"}},
    }
    assert values(sink_environment(distributed(), UID)) == values(sink_environment(secured(), UID))


def test_a_trino_may_ask_for_a_token_or_for_nothing() -> None:
    trino = {"url": "https://t", "tokenSecret": {"name": "a", "key": "b"}}
    for asked, expected in ((trino, {"K2_TRINO_TOKEN"}), ({"url": "http://t:8080"}, set())):
        query = {"mode": "distributed", "trino": asked}
        found = values(query_environment(effective(plain_body(query=query), operator_config()), UID))
        assert {name for name in found if name.startswith("K2_TRINO")} == expected | {
            "K2_TRINO_URL",
            "K2_TRINO_CATALOG",
            "K2_TRINO_USER",
        }


def test_a_secured_kafka() -> None:
    found = values(ingest_environment(secured(), UID, "replay"))
    assert found["K2_INGEST_SOURCE"] == "replay"
    assert found["K2_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert found["K2_KAFKA_SASL_MECHANISM"] == "SCRAM-SHA-512"
    assert found["K2_KAFKA_CA_FILE"] == "/etc/k2/kafka-ca/ca.crt"
    assert found["K2_SCHEMA_REGISTRY_URL"] == "http://registry:8081"
    assert found["K2_PIPELINE_UID"] == UID
    assert found["K2_METRICS_PORT"] == "9400"


def test_the_operators_defaults_are_used_where_the_pipeline_names_nothing() -> None:
    found = values(sink_environment(effective(plain_body(), operator_config()), UID))
    assert found["K2_KAFKA_BOOTSTRAP_SERVERS"] == "kafka.k2-system:9092"
    assert found["K2_KAFKA_SECURITY_PROTOCOL"] == "PLAINTEXT"
    assert found["K2_KAFKA_REPLICATION_FACTOR"] == "1"
    assert found["K2_CATALOG_TYPE"] == "rest"
    assert found["K2_CATALOG_URI"] == "http://catalog:8181"
    assert "K2_KAFKA_CA_FILE" not in found
    assert "K2_S3_ACCESS_KEY" not in found
