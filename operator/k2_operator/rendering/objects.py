"""The children without pods: the file, accounts, disruption budgets, the query Service; and every child's metadata.

Called by `manifests` and `deployments`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from k2_core.spec import API_VERSION, KIND
from k2_operator.names import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    INGEST,
    MAINTENANCE,
    QUERY,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVICE_PORT,
    SINK,
    Kind,
    labels,
    selector,
)
from k2_operator.pipeline import Effective
from k2_operator.rendering.pods import Manifest

_OPERATOR_ONLY: Final = frozenset({"suspend", "deletionPolicy"})
"""Of the spec: no service reads them, so no service's file changes with them."""


def metadata(effective: Effective, name: str, own_labels: Mapping[str, str]) -> Manifest:
    """Return a child's metadata without its owner."""
    return {"name": name, "namespace": effective.namespace, "labels": dict(own_labels)}


def pipeline_document(effective: Effective) -> dict[str, Any]:
    """Return the pipeline as services read it: without the cluster's metadata and what only the operator does."""
    pipeline = effective.pipeline
    spec = pipeline.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    # A Trino that the operator runs is read with only when it is ready, and how it runs is the operator's.
    spec["query"] |= {"mode": "single" if effective.engine is None else "distributed"}
    spec["query"].pop("trinoCluster", None)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": pipeline.metadata.name, "namespace": pipeline.metadata.namespace},
        "spec": {name: value for name, value in spec.items() if name not in _OPERATOR_ONLY},
    }


def config_map(effective: Effective) -> Manifest:
    """Return the ConfigMap with the services' file."""
    text = yaml.safe_dump(pipeline_document(effective), sort_keys=False)
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.name,
        "metadata": metadata(effective, effective.names.config_map, labels(effective.pipeline.metadata.name)),
        "data": {"pipeline.yaml": text},
    }


def service_accounts(effective: Effective) -> list[Manifest]:
    """Return one account a component."""
    maintained = [] if effective.maintenance_schedule is None else [MAINTENANCE]
    return [service_account(effective, component) for component in (INGEST, SINK, QUERY, *maintained)]


def service_account(effective: Effective, component: str) -> Manifest:
    """Return a component's account. It has no rights and no token: pods talk to no API server."""
    own = labels(effective.pipeline.metadata.name, component)
    return typed(SERVICE_ACCOUNT) | {
        "metadata": metadata(effective, effective.names.account(component), own),
        "automountServiceAccountToken": False,
    }


def workloads(effective: Effective) -> list[tuple[str, str, str | None]]:
    """Return name, component and source of each Deployment."""
    names = effective.names
    sources = [(names.ingest(one.name), INGEST, one.name) for one in effective.pipeline.spec.ingestion]
    return [*sources, (names.sink, SINK, None), (names.query, QUERY, None)]


def disruption_budgets(effective: Effective) -> list[Manifest]:
    """Return one budget a Deployment."""
    return [disruption_budget(effective, *workload) for workload in workloads(effective)]


def disruption_budget(effective: Effective, name: str, component: str, source: str | None) -> Manifest:
    """Return a budget: a drained node takes one pod at a time, and is never blocked by a lone one."""
    pipeline = effective.pipeline.metadata.name
    return typed(DISRUPTION_BUDGET) | {
        "metadata": metadata(effective, name, labels(pipeline, component, source)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(pipeline, component, source)}},
    }


def query_service(effective: Effective) -> Manifest:
    """Return the Service in front of the query pods."""
    pipeline = effective.pipeline.metadata.name
    return typed(SERVICE) | {
        "metadata": metadata(effective, effective.names.query, labels(pipeline, QUERY)),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(pipeline, QUERY),
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def typed(kind: Kind) -> Manifest:
    """Return the beginning of an object."""
    return {"apiVersion": kind.api_version, "kind": kind.name}
