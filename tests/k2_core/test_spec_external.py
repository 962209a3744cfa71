"""The parts that exist already: each contradiction between their fields is refused and names one of them."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import ValidationError

from k2_core.errors import SpecError
from k2_core.spec import parse_pipeline
from k2_core.spec_external import CatalogSpec, KafkaSpec, RedisSpec, StorageSpec, TlsSpec, TrinoSpec
from k2_core.spec_fields import Model

SECRET: Final = {"name": "a", "key": "b"}
CATALOG: Final = {"uri": "postgresql+psycopg://db/k2"}
S3: Final = {"accessKeySecret": SECRET, "secretKeySecret": SECRET}


@pytest.mark.parametrize(
    ("model", "document"),
    [
        pytest.param(TlsSpec, {"enabled": False}, id="tls-off"),
        pytest.param(TlsSpec, {"caSecret": SECRET}, id="tls-with-ca"),
        pytest.param(CatalogSpec, CATALOG, id="sql"),
        pytest.param(CatalogSpec, {"uri": "sqlite:////tmp/catalog.db"}, id="sqlite"),
        pytest.param(CatalogSpec, {"type": "rest", "uri": "https://rest/catalog"}, id="rest"),
        pytest.param(CatalogSpec, {"type": "rest", "uriSecret": SECRET}, id="in-a-secret"),
        pytest.param(CatalogSpec, {"uri": "postgresql://k2@db/k2"}, id="a-user-without-password"),
        pytest.param(StorageSpec, {"catalog": CATALOG, "warehouse": "file:///w"}, id="disk"),
        pytest.param(StorageSpec, {"catalog": CATALOG, "warehouse": "s3://lake/w", "s3": S3}, id="s3"),
        pytest.param(StorageSpec, {"catalog": CATALOG, "warehouse": "s3://lake"}, id="s3-of-the-surroundings"),
        pytest.param(KafkaSpec, {"bootstrapServers": "a:1,b:2", "schemaRegistryUrl": "http://r/apis/v7"}, id="kafka"),
        pytest.param(RedisSpec, {"address": "redis:6379"}, id="redis"),
        pytest.param(TrinoSpec, {"url": "http://trino:8080"}, id="trino"),
        pytest.param(TrinoSpec, {"url": "https://trino", "tokenSecret": SECRET, "caSecret": SECRET}, id="trino-token"),
    ],
)
def test_accepted(model: type[Model], document: dict[str, Any]) -> None:
    assert model.model_validate(document)


@pytest.mark.parametrize(
    ("model", "document", "message"),
    [
        pytest.param(TlsSpec, {"enabled": False, "caSecret": SECRET}, "found a CA though enabled is false", id="ca"),
        pytest.param(CatalogSpec, {}, "found none, expected exactly one of uri and uriSecret", id="no-uri"),
        pytest.param(CatalogSpec, {**CATALOG, "uriSecret": SECRET}, "found both, expected exactly one", id="two-uris"),
        pytest.param(CatalogSpec, {"uri": "http://rest"}, "an HTTP URL and type sql, expected a SQLAlchemy", id="sql"),
        pytest.param(CatalogSpec, {"type": "rest", **CATALOG}, "no HTTP URL and type rest, expected an ht", id="rest"),
        pytest.param(CatalogSpec, {"uri": "postgresql://k2:pw@db/k2"}, "a password in it, expected .* in uri", id="pw"),
        pytest.param(
            StorageSpec,
            {"catalog": CATALOG, "warehouse": "file:///w", "s3": S3},
            "S3 settings for a w",
            id="s3-on-disk",
        ),
        pytest.param(StorageSpec, {"catalog": CATALOG, "warehouse": "/w"}, "should match pattern", id="warehouse-path"),
        pytest.param(KafkaSpec, {"bootstrapServers": "a:1,"}, "should match pattern", id="comma"),
        pytest.param(
            KafkaSpec,
            {"bootstrapServers": "a:1", "schemaRegistryUrl": "http://u:p@r"},
            "should match",
            id="registry-login",
        ),
        pytest.param(RedisSpec, {"address": "redis://redis:6379"}, "should match pattern", id="redis-url"),
        pytest.param(
            TrinoSpec,
            {"url": "https://t", "tokenSecret": SECRET, "passwordSecret": SECRET},
            "found a password and a token, expected at most one of the two",
            id="trino-two-secrets",
        ),
        pytest.param(
            TrinoSpec,
            {"url": "http://t", "passwordSecret": SECRET},
            "found a secret or a CA without TLS, expected none, or https://",
            id="trino-secret-in-clear",
        ),
    ],
)
def test_refused(model: type[Model], document: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(document)


def test_a_password_is_not_repeated_in_the_error() -> None:
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "a"},
        "spec": {
            "storage": {"catalog": {"uri": "postgresql://k2:hunter2@db/k2"}, "warehouse": "file:///w"},
            "ingestion": [{"name": "b", "venue": "binance", "symbols": [{"name": "A"}]}],
        },
    }
    with pytest.raises(SpecError, match=r"^spec\.storage\.catalog\.uri: found a password in it") as caught:
        parse_pipeline(document)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("tls", "sasl", "expected"),
    [
        pytest.param(None, False, "PLAINTEXT", id="neither"),
        pytest.param(True, False, "SSL", id="tls"),
        pytest.param(False, True, "SASL_PLAINTEXT", id="sasl-with-tls-off"),
        pytest.param(True, True, "SASL_SSL", id="both"),
    ],
)
def test_the_security_protocol_follows_from_tls_and_sasl(tls: bool | None, sasl: bool, expected: str) -> None:
    secret = {"name": "kafka", "key": "k"}
    login = {"mechanism": "PLAIN", "usernameSecret": secret, "passwordSecret": secret}
    document: dict[str, Any] = {"bootstrapServers": "kafka:9092"}
    document |= {} if tls is None else {"tls": {"enabled": tls}}
    document |= {"sasl": login} if sasl else {}
    assert KafkaSpec.model_validate(document).security_protocol == expected
