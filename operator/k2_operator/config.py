"""The operator's own configuration: one YAML file, from the chart's ConfigMap.

Read once, in `__main__`. What it holds about Kafka and storage are defaults for pipelines that name none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from k2_core.errors import SpecError
from k2_core.spec import KafkaSpec, SecretKeyRef, StorageSpec

CONFIG_VARIABLE: Final = "K2_OPERATOR_CONFIG"
DEFAULT_PATH: Final = Path("/etc/k2/operator.yaml")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True)


class Images(_Model):
    """The image of each component, with its tag."""

    ingest: str = "k2-ingest:0.1.0"
    sink: str = "k2-sink:0.1.0"
    query: str = "k2-query:0.1.0"
    cli: str = "k2-cli:0.1.0"
    trino: str = "trinodb/trino:476"


class TrinoDefaults(_Model):
    """Where the secrets are of a Trino that the operator runs."""

    access_secret_name: str | None = None
    """With the keys password, maintenancePassword and sharedSecret."""
    tls_secret_name: str | None = None
    """With the keys tls.crt, tls.key and ca.crt."""


class Defaults(_Model):
    """What a pipeline gets that names none of its own. Secrets are looked up in the pipeline's own namespace."""

    kafka: KafkaSpec | None = None
    storage: StorageSpec | None = None
    api_key_secret: SecretKeyRef | None = None
    trino: TrinoDefaults = TrinoDefaults()


class OperatorConfig(_Model):
    """The whole file; the order is that of the chart's values."""

    images: Images = Images()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    defaults: Defaults = Defaults()
    watch_namespaces: tuple[str, ...] = ()
    """Empty means all."""
    resync_seconds: float = Field(default=5.0, ge=1.0, le=300.0)
    """How often Kafka and secrets are looked at, a pipeline; stretched when there are many pipelines."""
    metrics_port: int = Field(default=9400, ge=0, le=65535)
    listen_host: str = "0.0.0.0"  # noqa: S104  # a pod's own address; probes and scrapes come from outside the pod
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    drain_timeout_seconds: float = Field(default=600.0, ge=1.0)
    """After which a drain that goes on is called slow in the conditions. It is never cut short."""
    watch_seconds: int = Field(default=60, ge=1, le=600)
    """Every watch is begun anew after this. One that hangs is given up after one and a half times as long, and one that
    has not been answered for three times as long makes the operator not live."""
    reconcile_limit_seconds: float = Field(default=120.0, ge=1.0)
    """A reconcile waits for the API server only, 30 s a request; one that takes longer makes the operator not live."""


def load_config(path: Path) -> OperatorConfig:
    """Read the file.

    Raises:
        SpecError: It is missing, no YAML, or holds what the operator does not know; names the field.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError("", f"{path} ({' '.join(str(error).split())})", "a readable YAML file") from error
    try:
        return OperatorConfig.model_validate({} if document is None else document, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{path}: {where}", repr(first["input"]), first["msg"].lower()) from error
