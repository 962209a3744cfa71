"""Where a service finds its pipeline, its Kafka, its catalog and its warehouse: environment variables `K2_*`.

Each service has one frozen settings class, derived from `ServiceSettings` and read once in its `__main__`. Endpoints
and secrets come from here only; behaviour comes from the pipeline file. On a laptop `k2 up` sets the variables, in a
cluster the operator does. Secrets are `SecretStr`, so that no log or traceback shows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2_core.errors import SpecError

Settings = TypeVar("Settings", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """What every service needs to know; the order is that of the chart's values."""

    model_config = SettingsConfigDict(env_prefix="K2_", frozen=True, extra="forbid")

    pipeline_file: Path = Path("/etc/k2/pipeline.yaml")
    """The K2Pipeline, as a file."""
    pipeline_uid: str | None = None
    """What owns the tables; None means the uid of the file, or its name on a laptop."""

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca_file: Path | None = None
    """PEM file of the CA that signed the brokers' certificates; None means the system's CAs."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_replication_factor: int = Field(default=1, ge=1)
    schema_registry_url: str | None = None
    """None means the schemas that ship with K2, under their fixed ids."""

    catalog_type: Literal["sql", "rest"] = "sql"
    catalog_uri: SecretStr | None = None
    warehouse: str | None = None
    """A `file://` or `s3://` URL."""
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None

    listen_host: str = "127.0.0.1"
    """Loopback unless somebody says otherwise; in a pod the operator says 0.0.0.0."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port of `/metrics`, `/health`, `/livez` and `/readyz`; 0 means any free one, printed in the log."""
    termination_message_path: Path | None = None
    """A file for the one line that says why the process ended; None means none. Read by `k2_core.exits`."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def read_settings(kind: type[Settings]) -> Settings:
    """Read a settings class from the environment.

    Raises:
        SpecError: A variable is missing or wrong; names it, never its value when it is a secret.
    """
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        variable = "K2_" + "_".join(str(part) for part in first["loc"]).upper()
        if first["type"] == "missing":
            raise SpecError(variable, "no such environment variable", "a value") from error
        raise SpecError(variable, "an unusable environment variable", first["msg"].lower()) from error
