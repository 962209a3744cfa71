"""Settings from the environment: defaults, each refusal, and no secret in sight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from k2_core.config import ServiceSettings, read_settings
from k2_core.errors import SpecError


class NeedyService(ServiceSettings):
    """A service that cannot do without one setting."""

    api_key: SecretStr


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)


def test_defaults_are_those_of_a_laptop() -> None:
    settings = read_settings(ServiceSettings)
    assert settings.listen_host == "127.0.0.1"
    assert settings.kafka_bootstrap_servers.startswith("127.0.0.1:")
    assert settings.metrics_port == 0
    assert settings.schema_registry_url is None
    assert settings.catalog_uri is None


def test_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "K2_PIPELINE_FILE": "/tmp/p.yaml",
        "K2_KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2",
        "K2_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "K2_KAFKA_REPLICATION_FACTOR": "3",
        "K2_CATALOG_URI": "sqlite:///x.db",
        "K2_METRICS_PORT": "9400",
        "K2_LOG_LEVEL": "DEBUG",
    }.items():
        monkeypatch.setenv(name, value)
    settings = read_settings(ServiceSettings)
    assert settings.pipeline_file == Path("/tmp/p.yaml")
    assert settings.kafka_bootstrap_servers == "a:1,b:2"
    assert settings.kafka_security_protocol == "SASL_SSL"
    assert (settings.kafka_replication_factor, settings.metrics_port, settings.log_level) == (3, 9400, "DEBUG")
    assert settings.catalog_uri is not None
    assert settings.catalog_uri.get_secret_value() == "sqlite:///x.db"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("K2_METRICS_PORT", "http", "valid integer"),
        ("K2_METRICS_PORT", "70000", "less than or equal to 65535"),
        ("K2_METRICS_PORT", "-1", "greater than or equal to 0"),
        ("K2_KAFKA_REPLICATION_FACTOR", "0", "greater than or equal to 1"),
        ("K2_KAFKA_SECURITY_PROTOCOL", "TLS", "'plaintext', 'ssl'"),
        ("K2_CATALOG_TYPE", "hive", "'sql' or 'rest'"),
        ("K2_LOG_LEVEL", "debug", "'debug', 'info'"),
    ],
    ids=["word", "high", "negative", "zero", "protocol", "catalog", "level"],
)
def test_each_refusal_names_the_variable(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SpecError) as caught:
        read_settings(ServiceSettings)
    assert (caught.value.path, expected in caught.value.expected) == (variable, True), caught.value
    assert "\n" not in str(caught.value)


def test_a_missing_one_is_named() -> None:
    with pytest.raises(SpecError, match="K2_API_KEY: found no such environment variable, expected a value"):
        read_settings(NeedyService)


def test_secrets_are_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_API_KEY", "hunter2")
    monkeypatch.setenv("K2_CATALOG_URI", "postgresql://u:hunter2@h/db")
    monkeypatch.setenv("K2_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("K2_S3_SECRET_KEY", "hunter2")
    settings = read_settings(NeedyService)
    assert settings.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_a_refusal_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_METRICS_PORT", "hunter2")
    with pytest.raises(SpecError) as caught:
        read_settings(ServiceSettings)
    assert "hunter2" not in str(caught.value)


def test_they_do_not_change() -> None:
    settings = read_settings(ServiceSettings)
    with pytest.raises(ValidationError, match="frozen"):
        settings.__setattr__("metrics_port", 1)  # as an assignment, which mypy forbids too


def test_code_cannot_set_what_is_no_setting() -> None:
    with pytest.raises(ValidationError, match="extra"):
        ServiceSettings(metric_port=1)  # type: ignore[call-arg]  # the mistake that is to be caught
