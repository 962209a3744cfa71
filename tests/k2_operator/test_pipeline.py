from __future__ import annotations

from dataclasses import replace

import pytest

from k2_core.errors import SpecError
from k2_core.spec import SecretKeyRef
from k2_operator.config import OperatorConfig, TrinoDefaults
from k2_operator.pipeline import effective
from support.operator import distributed, operated, operated_body, operator_config, plain_body, secured, secured_body


def test_the_topics_are_those_of_trades_and_their_dead_letters() -> None:
    assert secured().topics() == {
        "market.crypto.trades.binance": 6,
        "market.crypto.trades.binance.dlq": 1,
        "market.equities.trades.asx": 3,
        "market.equities.trades.asx.dlq": 1,
    }


def test_a_file_of_a_laptop_is_no_file_of_a_pod() -> None:
    exchange = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    files = [{"name": "a", "path": "s3://b/a.csv", "symbol": "A"}, {"name": "b", "path": "b.csv", "symbol": "B"}]
    body = plain_body(ingestion=[exchange, {"name": "asx", "venue": "asx", "files": files}])
    expected = r"^spec\.ingestion\[1\]\.files\[1\]\.path: found 'b\.csv', expected an s3:// URL"
    with pytest.raises(SpecError, match=expected):
        effective(body, operator_config())


def test_the_secrets_by_field() -> None:
    assert {field: (ref.name, ref.key) for field, ref in secured().secrets().items()} == {
        "spec.kafka.tls.caSecret": ("kafka-ca", "tls.crt"),
        "spec.kafka.sasl.usernameSecret": ("kafka-login", "user"),
        "spec.kafka.sasl.passwordSecret": ("kafka-login", "password"),
        "spec.storage.catalog.uriSecret": ("catalog", "uri"),
        "spec.storage.s3.accessKeySecret": ("s3", "access"),
        "spec.storage.s3.secretKeySecret": ("s3", "secret"),
        "spec.query.apiKeySecret": ("api-keys", "keys"),
    }


def test_the_secrets_of_a_trino_are_among_them() -> None:
    found = {field: (ref.name, ref.key) for field, ref in distributed().secrets().items()}
    assert found.items() - {field: (ref.name, ref.key) for field, ref in secured().secrets().items()}.items() == {
        ("spec.query.trino.passwordSecret", ("trino-login", "password")),
        ("spec.query.trino.caSecret", ("trino-ca", "ca.pem")),
    }


def test_the_secrets_of_a_trino_that_the_operator_runs_are_among_them() -> None:
    found = {(ref.name, ref.key) for field, ref in operated().secrets().items() if "trinoCluster" in field}
    assert found == {("trino-access", key) for key in ("password", "maintenancePassword", "sharedSecret")} | {
        ("trino-tls", key) for key in ("tls.crt", "tls.key", "ca.crt")
    }


def test_the_engine_is_what_answers_now() -> None:
    assert secured().engine is None
    named, own = distributed().engine, operated().engine
    assert named is not None
    assert named.url == "https://trino.analytics:8443"
    assert own is not None
    assert (own.url, own.catalog, own.user) == ("https://crypto-trino.markets.svc:8443", "k2", "k2")
    assert replace(operated(), trino_answers=False).engine is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"accessSecretName": None}, "trinoCluster.accessSecretName: found nothing", id="access"),
        pytest.param({"tlsSecretName": None}, "trinoCluster.tlsSecretName: found nothing", id="TLS"),
    ],
)
def test_a_trino_needs_its_secrets_named_by_somebody(change: dict[str, None], expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        operated(**change)
    config = operator_config()
    trino = TrinoDefaults.model_validate({"accessSecretName": "a", "tlsSecretName": "t"})
    config = config.model_copy(update={"defaults": config.defaults.model_copy(update={"trino": trino})})
    found = effective(operated_body(**change), config).trino
    assert found is not None
    assert {"a", "t"} & {found.access, found.tls}


def test_a_default_storage_that_no_trino_reads_is_refused() -> None:
    query = {"mode": "distributed", "trinoCluster": {"accessSecretName": "a", "tlsSecretName": "t"}}
    with pytest.raises(SpecError, match=r"^spec\.storage\.s3: found no S3 for a Trino that the operator runs"):
        effective(plain_body(query=query), operator_config())


def test_a_plain_pipeline_has_none() -> None:
    assert effective(plain_body(), operator_config()).secrets() == {}


def test_its_own_api_keys_come_before_the_operators() -> None:
    config = operator_config()
    usual = SecretKeyRef(name="usual-keys", key="keys")
    config = config.model_copy(update={"defaults": config.defaults.model_copy(update={"api_key_secret": usual})})
    assert effective(plain_body(), config).secrets() == {"spec.query.apiKeySecret": usual}
    assert effective(secured_body(), config).secrets()["spec.query.apiKeySecret"].name == "api-keys"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param({}, "spec.kafka", id="kafka"),
        pytest.param({"kafka": {"bootstrapServers": "k:1"}}, "spec.storage", id="storage"),
    ],
)
def test_without_a_default_the_pipeline_must_name_it(part: dict[str, object], expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        effective(plain_body("crypto", **part), OperatorConfig())
