from __future__ import annotations

import pytest

from k2_core.errors import SpecError
from k2_core.spec import SecretKeyRef
from k2_operator.config import OperatorConfig
from k2_operator.pipeline import effective
from support.operator import distributed, operator_config, plain_body, secured, secured_body


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
