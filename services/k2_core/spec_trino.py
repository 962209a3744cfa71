"""The part of a K2Pipeline that describes a Trino which the operator runs: nodes, cache, and where its secrets are.

Read through `k2_core.spec`; pure. A Trino that exists already is `k2_core.spec_external.TrinoSpec`.
"""

from __future__ import annotations

import re
from typing import Final, Self

from pydantic import ConfigDict, Field, model_validator

from k2_core.quantity import quantity_value
from k2_core.spec_external import StorageSpec
from k2_core.spec_fields import (
    RESOURCES_DESCRIPTION,
    Model,
    Quantity,
    ResourcesSpec,
    SecretName,
    contradiction,
    rule,
    rules,
)

LEAST_MEMORY: Final = "2Gi"
"""Of a node: below it Trino's own classes leave nothing for a query."""
LEAST_CACHE: Final = "1Gi"
READABLE_CATALOG: Final = "^(https?|postgresql)[:+]"
"""Of a catalog's URI: what Trino has a client for. In a secret it is looked at when Trino starts."""


class _NodeSpec(Model):
    """A Trino node's pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.resources) || !has(self.resources.limits) || !has(self.resources.limits.memory) || "
                f"quantity(string(self.resources.limits.memory)).compareTo(quantity('{LEAST_MEMORY}')) >= 0",
                f"expected at least {LEAST_MEMORY}",
                field=".resources.limits.memory",
            )
        )
    )

    resources: ResourcesSpec | None = Field(default=None, description=RESOURCES_DESCRIPTION)

    @model_validator(mode="after")
    def _memory_for_trino(self) -> Self:
        limits = None if self.resources is None else self.resources.limits
        memory = None if limits is None else limits.memory
        if memory is not None and quantity_value(memory) < quantity_value(LEAST_MEMORY):
            raise contradiction("resources.limits.memory", memory, f"at least {LEAST_MEMORY}")
        return self


class TrinoCoordinatorSpec(_NodeSpec):
    """Trino's one coordinator: it plans and reads no data."""


class TrinoWorkersSpec(_NodeSpec):
    """Trino's workers: they read the files."""

    replicas: int = Field(default=2, ge=1, le=100, description="How many there are.")


class TrinoClusterSpec(Model):
    """A Trino that the operator runs for this pipeline alone, over its own catalog and warehouse."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"quantity(string(self.cacheSize)).compareTo(quantity('{LEAST_CACHE}')) >= 0",
                f"expected at least {LEAST_CACHE}",
                field=".cacheSize",
            )
        )
    )

    coordinator: TrinoCoordinatorSpec = Field(default=TrinoCoordinatorSpec(), description="The coordinator.")
    workers: TrinoWorkersSpec = Field(default=TrinoWorkersSpec(), description="The workers.")
    cache_size: Quantity = Field(
        default="8Gi", description="Of each worker's disk, for files of the warehouse that it read before."
    )
    grace_period_seconds: int = Field(
        default=120, ge=60, le=3600, description="What a worker may take for its queries' end before it is killed."
    )
    access_secret_name: SecretName | None = Field(
        default=None,
        description="A Secret with the keys password (of the query service), maintenancePassword and sharedSecret "
        "(between Trino's nodes, 32 random characters or more); none: the operator's default.",
    )
    tls_secret_name: SecretName | None = Field(
        default=None,
        description="A Secret of type kubernetes.io/tls with ca.crt, as cert-manager makes them, for the name "
        "PIPELINE-trino.NAMESPACE.svc; none: the operator's default.",
    )

    @model_validator(mode="after")
    def _cache_has_room(self) -> Self:
        if quantity_value(self.cache_size) < quantity_value(LEAST_CACHE):
            raise contradiction("cacheSize", self.cache_size, f"at least {LEAST_CACHE}")
        return self


def unreadable(storage: StorageSpec) -> tuple[str, str, str] | None:
    """Return what of a storage no Trino that the operator runs can read; None if it can.

    Returns:
        The field, below the storage, what was found there, and what was expected.
    """
    if storage.s3 is None:
        return "s3", "no S3 for a Trino that the operator runs", "s3 and a warehouse at s3://"
    uri = storage.catalog.uri
    if uri is not None and not re.match(READABLE_CATALOG, uri):
        found = f"a URI of {uri.partition(':')[0]} for a Trino that the operator runs"
        return "catalog.uri", found, "PostgreSQL or a REST catalog"
    return None
