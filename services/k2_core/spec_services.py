"""The parts of a K2Pipeline that describe its services and their upkeep.

Read through `k2_core.spec`; pure.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from k2_core.spec_external import TrinoSpec
from k2_core.spec_fields import (
    RESOURCES_DESCRIPTION,
    Model,
    ResourcesSpec,
    SecretKeyRef,
    contradiction,
    rule,
    rules,
)
from k2_core.spec_trino import TrinoClusterSpec


class SinkSpec(Model):
    """Kafka into Iceberg. A commit happens after the interval or the number of records, whichever comes first."""

    replicas: int = Field(default=1, ge=1, le=100, description="Sinks that share the topic's partitions.")
    commit_interval_seconds: float = Field(
        default=10, ge=0.5, le=3600, description="At most so many seconds until a record is in the table,"
    )
    commit_records: int = Field(
        default=500_000, ge=1_000, le=2_000_000, description="or so many records, whichever comes first."
    )
    compression_level: int = Field(default=3, ge=1, le=19, description="Of zstd: higher is smaller and slower.")
    resources: ResourcesSpec | None = Field(default=None, description=RESOURCES_DESCRIPTION)


class QuerySpec(Model):
    """The query API. `commitLagSeconds` only decides when an answer carries a warning."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.mode == 'distributed' || !has(self.trino)",
                "found a Trino for mode single, expected none, or mode distributed",
                field=".trino",
            ),
            rule(
                "self.mode == 'distributed' || !has(self.trinoCluster)",
                "found a Trino for mode single, expected none, or mode distributed",
                field=".trinoCluster",
            ),
            rule(
                "!has(self.trino) || !has(self.trinoCluster)",
                "found a Trino that exists and one that the operator runs, expected at most one of the two",
                field=".trinoCluster",
            ),
        )
    )

    mode: Literal["single", "distributed"] = Field(
        default="single",
        description="single: DuckDB in the query service; distributed: the Trino of trino, or else one that the "
        "operator runs.",
    )
    trino: TrinoSpec | None = Field(
        default=None, description="A Trino that exists already and reads the tables in mode distributed."
    )
    trino_cluster: TrinoClusterSpec | None = Field(
        default=None, description="The Trino that the operator runs in mode distributed where trino names none."
    )
    replicas: int = Field(default=1, ge=1, le=100, description="Of the API. Without effect on a laptop.")
    port: int = Field(default=8000, ge=1024, le=65535, description="On which the API listens.")
    api_key_secret: SecretKeyRef | None = Field(default=None, description="Where the API keys are.")
    commit_lag_seconds: float = Field(
        default=120, ge=1, le=86400, description="An answer warns when the newest commit is older than this."
    )
    tail_max_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        le=64 * 1024**3,
        description="Memory for what is not yet in the table; beyond it the log is read on demand.",
    )
    resources: ResourcesSpec | None = Field(default=None, description=RESOURCES_DESCRIPTION)

    @property
    def needs_operator(self) -> bool:
        """Whether the tables are read by a Trino that only an operator runs."""
        return self.mode == "distributed" and self.trino is None

    @model_validator(mode="after")
    def _one_trino_if_distributed(self) -> Self:
        for name, given in (("trino", self.trino), ("trinoCluster", self.trino_cluster)):
            if self.mode == "single" and given is not None:
                raise contradiction(name, "a Trino for mode single", "none, or mode distributed")
        if self.trino is not None and self.trino_cluster is not None:
            both = "a Trino that exists and one that the operator runs"
            raise contradiction("trinoCluster", both, "at most one of the two")
        return self


class MaintenanceSpec(Model):
    """Files are put together, snapshots expire, litter is removed: by Trino, in mode distributed."""

    schedule: str | None = Field(
        default=None,
        pattern=r"^[0-9*/,-]+( [0-9*/,-]+){4}$",
        max_length=100,
        description="When, as five fields of cron in UTC; none: never. No effect yet in mode single.",
    )
    snapshot_retention_days: int = Field(
        default=7,
        ge=1,
        le=3650,
        description="How long snapshots, and files that nothing names, are kept: as far as a rollback or a reader of "
        "an old snapshot reaches. No effect in mode single, but with storage.retentionDays.",
    )
