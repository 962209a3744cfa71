"""From a pipeline and a state folder to the environment of its services, and to settings for commands that read.

What the pipeline file leaves out (`kafka`, `storage`) is embedded in the folder; what it names is used instead, with
secrets from the user's own `K2_*` variables, as a laptop has no Kubernetes secrets. Pure.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from k2_cli.folder import StateFolder
from k2_core.config import ServiceSettings, Settings
from k2_core.errors import SpecError
from k2_core.spec import KafkaSpec, Pipeline, PipelineSpec, StorageSpec

_SECRETS: Final = {
    "K2_KAFKA_CA_FILE": "spec.kafka.tls.caSecret",
    "K2_KAFKA_SASL_USERNAME": "spec.kafka.sasl.usernameSecret",
    "K2_KAFKA_SASL_PASSWORD": "spec.kafka.sasl.passwordSecret",
    "K2_CATALOG_URI": "spec.storage.catalog.uriSecret",
    "K2_S3_ACCESS_KEY": "spec.storage.s3.accessKeySecret",
    "K2_S3_SECRET_KEY": "spec.storage.s3.secretKeySecret",
    "K2_TRINO_PASSWORD": "spec.query.trino.passwordSecret",
    "K2_TRINO_TOKEN": "spec.query.trino.tokenSecret",
    "K2_TRINO_CA_FILE": "spec.query.trino.caSecret",
}
"""Variables that carry what a cluster keeps in secrets, and where the pipeline file asks for them."""


def service_environment(
    pipeline: Pipeline, folder: StateFolder, kafka: str, pipeline_file: Path, base: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of a service.

    Args:
        pipeline: What runs.
        folder: Where embedded state lies.
        kafka: Bootstrap servers of the embedded Kafka; not used when the pipeline names one.
        pipeline_file: The file that the services read.
        base: The user's own environment. Its `K2_*` variables survive only where they are secrets or log levels.

    Raises:
        SpecError: The pipeline asks for a secret that the environment does not have.
    """
    kept = {name: value for name, value in base.items() if not name.startswith("K2_") or name in _KEPT}
    environment = kept | {"K2_PIPELINE_FILE": str(pipeline_file), "PYTHONUNBUFFERED": "1"}
    environment |= _kafka(pipeline.spec.kafka, kafka, base)
    environment |= _storage(pipeline.spec.storage, folder, base)
    environment |= _trino(pipeline.spec, base)
    return environment


_KEPT: Final = frozenset({"K2_LOG_LEVEL", "K2_CACHE_DIR", "K2_SINK_DRAIN_TIMEOUT_S", "K2_QUERY_CACHE_BYTES"})


def _kafka(spec: KafkaSpec | None, embedded: str, base: Mapping[str, str]) -> dict[str, str]:
    if spec is None:
        return {"K2_KAFKA_BOOTSTRAP_SERVERS": embedded}
    environment = {
        "K2_KAFKA_BOOTSTRAP_SERVERS": spec.bootstrap_servers,
        "K2_KAFKA_REPLICATION_FACTOR": str(spec.replication_factor),
        "K2_KAFKA_SECURITY_PROTOCOL": spec.security_protocol,
    }
    if spec.schema_registry_url:
        environment["K2_SCHEMA_REGISTRY_URL"] = spec.schema_registry_url
    if spec.tls is not None and spec.tls.ca_secret is not None:
        environment |= _secrets(base, "K2_KAFKA_CA_FILE")
    elif "K2_KAFKA_CA_FILE" in base:
        environment["K2_KAFKA_CA_FILE"] = base["K2_KAFKA_CA_FILE"]
    if spec.sasl is not None:
        environment["K2_KAFKA_SASL_MECHANISM"] = spec.sasl.mechanism
        environment |= _secrets(base, "K2_KAFKA_SASL_USERNAME", "K2_KAFKA_SASL_PASSWORD")
    return environment


def _storage(spec: StorageSpec | None, folder: StateFolder, base: Mapping[str, str]) -> dict[str, str]:
    if spec is None:
        return {"K2_CATALOG_URI": folder.catalog_uri, "K2_WAREHOUSE": folder.warehouse_url}
    environment = {"K2_CATALOG_TYPE": spec.catalog.type, "K2_WAREHOUSE": spec.warehouse}
    environment["K2_QUERY_CACHE_DIR"] = base.get("K2_QUERY_CACHE_DIR", str(folder.root / "cache"))
    if spec.catalog.uri is not None:
        environment["K2_CATALOG_URI"] = spec.catalog.uri
    else:
        environment |= _secrets(base, "K2_CATALOG_URI")
    if spec.s3 is not None:
        environment |= {"K2_S3_REGION": spec.s3.region} | _secrets(base, "K2_S3_ACCESS_KEY", "K2_S3_SECRET_KEY")
        if spec.s3.endpoint is not None:
            environment["K2_S3_ENDPOINT"] = spec.s3.endpoint
    return environment


def _trino(spec: PipelineSpec, base: Mapping[str, str]) -> dict[str, str]:
    trino = spec.query.trino
    if spec.query.needs_operator:
        raise SpecError(
            "spec.query.trino.url",
            "none for mode distributed",
            "the address of a Trino that runs: only the operator in a cluster runs one",
        )
    if trino is None:
        return {}
    if spec.storage is None:
        raise SpecError(
            "spec.query.mode", "distributed without spec.storage", "a catalog and a warehouse that Trino reaches, too"
        )
    referred = {
        "K2_TRINO_PASSWORD": trino.password_secret,
        "K2_TRINO_TOKEN": trino.token_secret,
        "K2_TRINO_CA_FILE": trino.ca_secret,
    }
    environment = {"K2_TRINO_URL": trino.url, "K2_TRINO_CATALOG": trino.catalog, "K2_TRINO_USER": trino.user}
    return environment | _secrets(base, *(name for name, ref in referred.items() if ref is not None))


def _secrets(base: Mapping[str, str], *names: str) -> dict[str, str]:
    for name in names:
        if name not in base:
            raise SpecError(_SECRETS[name], f"no variable {name}", "its value there: a laptop has no secrets")
    return {name: base[name] for name in names}


def reader_settings(environment: Mapping[str, str]) -> ServiceSettings:
    """Return the settings that a service with this environment has, for commands that read the same tables."""
    return settings_of(ServiceSettings, environment)


def settings_of(kind: type[Settings], environment: Mapping[str, str]) -> Settings:
    """Return the settings of one service that has this environment."""
    given = {name.removeprefix("K2_").lower(): value for name, value in environment.items() if name.startswith("K2_")}
    return kind(**{name: given[name] for name in kind.model_fields if name in given})  # type: ignore[arg-type]


def folder_settings(pipeline: Pipeline, folder: StateFolder, kafka: str = "127.0.0.1:0") -> ServiceSettings:
    """Return settings for reading what a folder's pipeline wrote."""
    return reader_settings(service_environment(pipeline, folder, kafka, folder.pipeline_file, os.environ))
