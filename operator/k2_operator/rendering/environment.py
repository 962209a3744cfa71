"""The environment of each component's container: `K2_*` variables, secrets by reference and never by value.

Called by `deployments`. What each variable means is `k2_core.config`'s and the services' settings' to say. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from k2_core.spec import SecretKeyRef
from k2_core.spec_external import TrinoSpec
from k2_operator.names import MAINTENANCE, METRICS_PORT, QUERY, QUERY_PORT, REMOVAL
from k2_operator.pipeline import Effective, TrinoRun

PIPELINE_PATH: Final = "/etc/k2/pipeline.yaml"
CA_FOLDER: Final = "/etc/k2/kafka-ca"
TRINO_CA_FOLDER: Final = "/etc/k2/trino-ca"
CA_FILE: Final = "ca.crt"
TERMINATION_PATH: Final = "/dev/termination-log"
TRINO_TEMPLATES: Final = "/etc/k2/trino"
TRINO_TLS: Final = "/etc/k2/trino-tls"
TRINO_FILES: Final = "/run/trino"
"""A folder in memory, where Trino's secrets are."""
QUERY_CACHE_BYTES: Final = 1024**3
"""Of data files of object storage, which the query service keeps in its /tmp."""

KAFKA_CA: Final = "kafka-ca"
TRINO_CA: Final = "trino-ca"
"""Volumes."""

Variable = dict[str, Any]


def ingest_environment(effective: Effective, uid: str, source: str) -> list[Variable]:
    """Return the variables of one source's ingest: Kafka's, and of files object storage's; never the catalog's."""
    plain = _service(uid) | {"K2_METRICS_PORT": str(METRICS_PORT), "K2_INGEST_SOURCE": source} | _kafka(effective)
    secrets = dict(_kafka_secrets(effective))
    if effective.source(source).reads_files:
        plain |= _objects(effective)
        secrets |= dict(_object_secrets(effective))
    return _variables(plain, secrets)


def sink_environment(effective: Effective, uid: str) -> list[Variable]:
    """Return the sink's variables."""
    plain = _service(uid) | {"K2_METRICS_PORT": str(METRICS_PORT)}
    secrets = dict(_kafka_secrets(effective)) | dict(_storage_secrets(effective))
    return _variables(plain | _kafka(effective) | _storage(effective), secrets)


def query_environment(effective: Effective, uid: str) -> list[Variable]:
    """Return the query service's variables."""
    plain = _service(uid) | {"K2_PORT": str(QUERY_PORT), "K2_QUERY_CACHE_BYTES": str(QUERY_CACHE_BYTES)}
    secrets = dict(_kafka_secrets(effective)) | dict(_storage_secrets(effective))
    if effective.api_keys is not None:
        secrets["K2_API_KEYS"] = effective.api_keys
    secrets |= dict(_trino_secrets(effective.engine))
    return _variables(plain | _kafka(effective) | _storage(effective) | _trino(effective.engine), secrets)


def trino_environment(effective: Effective, run: TrinoRun) -> list[Variable]:
    """Return the variables of a Trino node: what its files refer to."""
    return _variables({}, dict(_object_secrets(effective)) | {"K2_TRINO_SHARED_SECRET": run.shared_secret})


def trino_files_environment(effective: Effective, run: TrinoRun, *, coordinator: bool) -> list[Variable]:
    """Return the variables of the program that writes a Trino node's files."""
    storage = effective.storage
    plain = {
        "K2_TRINO_TEMPLATES": TRINO_TEMPLATES,
        "K2_TRINO_FILES": TRINO_FILES,
        "K2_TERMINATION_MESSAGE_PATH": TERMINATION_PATH,
        "K2_CATALOG_TYPE": storage.catalog.type,
        "K2_WAREHOUSE": storage.warehouse,
    }
    secrets: dict[str, SecretKeyRef] = {}
    if storage.catalog.uri is not None:
        plain["K2_CATALOG_URI"] = storage.catalog.uri
    elif storage.catalog.uri_secret is not None:
        secrets["K2_CATALOG_URI"] = storage.catalog.uri_secret
    if coordinator:
        plain["K2_TRINO_TLS"] = TRINO_TLS
        secrets |= {"K2_TRINO_PASSWORD": run.password, "K2_TRINO_MAINTENANCE_PASSWORD": run.maintenance_password}
    return _variables(plain, secrets)


def maintenance_environment(effective: Effective, uid: str) -> list[Variable]:
    """Return the variables of the maintenance of tables: those of storage and Trino, never Kafka's."""
    trino = effective.maintainer
    secrets = dict(_storage_secrets(effective)) | dict(_trino_secrets(trino))
    return _variables(_service(uid) | _storage(effective) | _trino(trino), secrets)


def removal_environment(effective: Effective, uid: str) -> list[Variable]:
    """Return the variables of the removal of tables: those of storage alone."""
    return _variables(_service(uid) | _storage(effective), dict(_storage_secrets(effective)))


def _service(uid: str) -> dict[str, str]:
    return {
        "K2_PIPELINE_FILE": PIPELINE_PATH,
        "K2_PIPELINE_UID": uid,
        "K2_LISTEN_HOST": "0.0.0.0",  # noqa: S104  # the pod's own address: the kubelet and Prometheus come from outside
        "K2_TERMINATION_MESSAGE_PATH": TERMINATION_PATH,
        "PYTHONUNBUFFERED": "1",
    }


def _kafka(effective: Effective) -> dict[str, str]:
    kafka = effective.kafka
    found = {
        "K2_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "K2_KAFKA_REPLICATION_FACTOR": str(kafka.replication_factor),
        "K2_KAFKA_SECURITY_PROTOCOL": kafka.security_protocol,
    }
    if KAFKA_CA in authorities(effective, QUERY):
        found["K2_KAFKA_CA_FILE"] = f"{CA_FOLDER}/{CA_FILE}"
    if kafka.sasl is not None:
        found["K2_KAFKA_SASL_MECHANISM"] = kafka.sasl.mechanism
    if kafka.schema_registry_url:
        found["K2_SCHEMA_REGISTRY_URL"] = kafka.schema_registry_url
    return found


def authorities(effective: Effective, component: str) -> dict[str, tuple[str, SecretKeyRef]]:
    """Return the CAs that a component's pods mount: by volume the folder, and where the certificates are."""
    found: dict[str, tuple[str, SecretKeyRef]] = {}
    tls, trino = effective.kafka.tls, effective.engine
    if component not in {MAINTENANCE, REMOVAL} and tls is not None and tls.enabled and tls.ca_secret is not None:
        found[KAFKA_CA] = (CA_FOLDER, tls.ca_secret)
    if component in {QUERY, MAINTENANCE} and trino is not None and trino.ca_secret is not None:
        found[TRINO_CA] = (TRINO_CA_FOLDER, trino.ca_secret)
    return found


def _kafka_secrets(effective: Effective) -> Iterator[tuple[str, SecretKeyRef]]:
    if (sasl := effective.kafka.sasl) is not None:
        yield "K2_KAFKA_SASL_USERNAME", sasl.username_secret
        yield "K2_KAFKA_SASL_PASSWORD", sasl.password_secret


def _storage(effective: Effective) -> dict[str, str]:
    storage = effective.storage
    found = {"K2_CATALOG_TYPE": storage.catalog.type, "K2_WAREHOUSE": storage.warehouse}
    if storage.catalog.uri is not None:
        found["K2_CATALOG_URI"] = storage.catalog.uri
    return found | _objects(effective)


def _objects(effective: Effective) -> dict[str, str]:
    s3 = effective.storage.s3
    if s3 is None:
        return {}
    return {"K2_S3_REGION": s3.region} | ({} if s3.endpoint is None else {"K2_S3_ENDPOINT": s3.endpoint})


def _storage_secrets(effective: Effective) -> Iterator[tuple[str, SecretKeyRef]]:
    storage = effective.storage
    if storage.catalog.uri_secret is not None:
        yield "K2_CATALOG_URI", storage.catalog.uri_secret
    yield from _object_secrets(effective)


def _object_secrets(effective: Effective) -> Iterator[tuple[str, SecretKeyRef]]:
    if (s3 := effective.storage.s3) is not None:
        yield "K2_S3_ACCESS_KEY", s3.access_key_secret
        yield "K2_S3_SECRET_KEY", s3.secret_key_secret


def _trino(trino: TrinoSpec | None) -> dict[str, str]:
    if trino is None:
        return {}
    found = {"K2_TRINO_URL": trino.url, "K2_TRINO_CATALOG": trino.catalog, "K2_TRINO_USER": trino.user}
    if trino.ca_secret is not None:
        found["K2_TRINO_CA_FILE"] = f"{TRINO_CA_FOLDER}/{CA_FILE}"
    return found


def _trino_secrets(trino: TrinoSpec | None) -> Iterator[tuple[str, SecretKeyRef]]:
    if trino is not None and trino.password_secret is not None:
        yield "K2_TRINO_PASSWORD", trino.password_secret
    if trino is not None and trino.token_secret is not None:
        yield "K2_TRINO_TOKEN", trino.token_secret


def _variables(plain: Mapping[str, str], secrets: Mapping[str, SecretKeyRef]) -> list[Variable]:
    referred: list[Variable] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}}
        for name, ref in secrets.items()
    ]
    return [{"name": name, "value": value} for name, value in plain.items()] + referred
