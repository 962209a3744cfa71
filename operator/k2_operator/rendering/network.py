"""NetworkPolicies: nothing comes in but to the port that answers, nothing goes out but to what the pipeline names.

Addresses of Kafka, storage and exchanges are names that move, and a policy knows only numbers, so egress is by port.
Called by `manifests`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from k2_operator.names import (
    INGEST,
    MAINTENANCE,
    METRICS_PORT,
    NETWORK_POLICY,
    QUERY,
    QUERY_PORT,
    REMOVAL,
    SINK,
    labels,
    selector,
)
from k2_operator.pipeline import Effective
from k2_operator.rendering.objects import metadata, workloads
from k2_operator.rendering.pods import Manifest

DNS_PORT: Final = 53
DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443, "postgresql": 5432, "mysql": 3306}
UNKNOWN_CATALOG_PORTS: Final = frozenset({443, 5432})
"""A catalog whose URI is in a secret: REST over TLS or PostgreSQL. Another port wants a policy of one's own beside."""


def network_policies(effective: Effective) -> list[Manifest]:
    """Return one policy a Deployment, and one for the maintenance of tables."""
    found = [_policy(effective, *workload) for workload in workloads(effective)]
    if effective.maintenance_schedule is not None:
        found.append(_policy(effective, effective.names.maintenance, MAINTENANCE, None))
    return found


def removal_policy(effective: Effective) -> Manifest:
    """Return that of the removal of tables."""
    return _policy(effective, effective.names.removal, REMOVAL, None)


def _policy(effective: Effective, name: str, component: str, source: str | None) -> Manifest:
    pipeline = effective.pipeline.metadata.name
    return {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.name,
        "metadata": metadata(effective, name, labels(pipeline, component, source)),
        "spec": {
            "podSelector": {"matchLabels": selector(pipeline, component, source)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [tcp(port)]} for port in _answers_on(component)],
            "egress": [
                dns_egress(),
                {"ports": [tcp(port) for port in sorted(egress_ports(effective, component, source))]},
            ],
        },
    }


def dns_egress() -> Manifest:
    """Return the rule that lets names be looked up."""
    return {"ports": [{"protocol": "UDP", "port": DNS_PORT}, tcp(DNS_PORT)]}


def _answers_on(component: str) -> list[int]:
    return {QUERY: [QUERY_PORT], MAINTENANCE: [], REMOVAL: []}.get(component, [METRICS_PORT])


def tcp(port: int) -> Manifest:
    """Return a port of a rule."""
    return {"protocol": "TCP", "port": port}


def egress_ports(effective: Effective, component: str, source: str | None) -> set[int]:
    """Return the TCP ports that a component has to reach."""
    ports = set() if component in {MAINTENANCE, REMOVAL} else _kafka_ports(effective)
    if component == INGEST and source is not None:
        one = effective.source(source)
        ports |= _object_ports(effective) if one.reads_files else _ports([one.stream_url, one.rest_server])
    if component in {SINK, QUERY, MAINTENANCE, REMOVAL}:
        ports |= storage_ports(effective)
    if component in {QUERY, MAINTENANCE} and (trino := effective.engine) is not None:
        ports |= _ports([trino.url])
    return ports


def _kafka_ports(effective: Effective) -> set[int]:
    kafka = effective.kafka
    ports = {int(server.rpartition(":")[2]) for server in kafka.bootstrap_servers.split(",")}
    return ports | _ports([kafka.schema_registry_url])


def _object_ports(effective: Effective) -> set[int]:
    """Object storage's port; AWS's where the pipeline names no other."""
    s3 = effective.storage.s3
    return _ports([(None if s3 is None else s3.endpoint) or "https://s3"])


def storage_ports(effective: Effective) -> set[int]:
    """Return the TCP ports of catalog and warehouse."""
    storage = effective.storage
    ports = set() if storage.s3 is None else _object_ports(effective)
    if storage.catalog.uri is None:
        return ports | UNKNOWN_CATALOG_PORTS
    return ports | _ports([storage.catalog.uri])


def _ports(urls: Iterable[str | None]) -> set[int]:
    found = set()
    for url in filter(None, urls):
        parts = urlsplit(url)
        scheme = parts.scheme.partition("+")[0]  # SQLAlchemy's `postgresql+psycopg`
        port = parts.port or DEFAULT_PORTS.get(scheme)
        if port is not None:
            found.add(port)
    return found
