"""The parts of a K2Pipeline that describe its services and their upkeep.

Read through `k2_core.spec`; pure.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from k2_core.spec_external import TrinoSpec
from k2_core.spec_fields import (
    HttpUrl,
    Model,
    Name,
    ResourcesSpec,
    SecretKeyRef,
    SymbolName,
    WebSocketUrl,
    contradiction,
    keyed_by_name,
    rule,
    rules,
)
from k2_core.types import Symbol

_RESOURCES: Final = "Of each pod; what is left out is the operator's default. Without effect on a laptop."


class SymbolSpec(Model):
    """A symbol to ingest, and how soon it may be deferred under load."""

    name: SymbolName = Field(description="As the exchange writes it, in upper case.")
    priority: Literal["critical", "normal", "low"] = Field(
        default="normal", description="What may be deferred first under load: low, then normal."
    )


class IngestionSpec(Model):
    """One source. Its Deployment and its part of metrics carry `name`."""

    name: Name = Field(description="Of the source; a DNS label.")
    venue: Literal["binance"] = Field(description="The exchange.")
    market: Literal["spot"] = Field(default="spot", description="Which of the exchange's markets.")
    asset_class: Literal["crypto"] = Field(default="crypto", description="Second part of the topic's name.")
    url: WebSocketUrl = Field(
        default="wss://stream.binance.com:9443", description="The exchange's WebSocket server, without a path."
    )
    rest_url: HttpUrl = Field(default="https://api.binance.com", description="Its REST server, without a path.")
    symbols: tuple[SymbolSpec, ...] = Field(
        min_length=1,
        max_length=1024,
        strict=False,
        description="What to ingest; each symbol once.",
        json_schema_extra=keyed_by_name(),
    )
    partitions: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Of the topic; they can only grow. They bound how many sinks share the work.",
        # The value itself is in the API server's message; to write numbers in one is beyond its cost limits.
        json_schema_extra=rules(rule("self >= oldSelf", "expected at least as many as before: they can only grow")),
    )
    gap_threshold_ids: int = Field(
        default=1, ge=1, le=1_000_000_000, description="Missing trade ids in a row that make an alert. No effect yet."
    )
    silence_threshold_seconds: int = Field(
        default=60, ge=1, le=86400, description="Seconds without any message that make an alert. No effect yet."
    )
    resources: ResourcesSpec | None = Field(default=None, description=_RESOURCES)

    @model_validator(mode="after")
    def _distinct_symbols(self) -> Self:
        seen: set[str] = set()
        for at, symbol in enumerate(self.symbols):
            if symbol.name in seen:
                raise contradiction(f"symbols[{at}]", f"{symbol.name} a second time", "each symbol once")
            seen.add(symbol.name)
        return self

    @property
    def symbol_names(self) -> tuple[Symbol, ...]:
        """The symbols in the order of the file."""
        return tuple(Symbol(symbol.name) for symbol in self.symbols)


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
    resources: ResourcesSpec | None = Field(default=None, description=_RESOURCES)


class QuerySpec(Model):
    """The query API. `commitLagSeconds` only decides when an answer carries a warning."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(self.mode == 'distributed') == has(self.trino)",
                "expected a Trino for mode distributed, and none for mode single",
                shown="'found ' + (has(self.trino) ? 'a Trino' : 'no Trino') + ' for mode ' + self.mode + "
                "', expected one for mode distributed, and none for mode single'",
                field=".trino",
            )
        )
    )

    mode: Literal["single", "distributed"] = Field(
        default="single", description="single: DuckDB in the query service; distributed: a Trino, named in trino."
    )
    trino: TrinoSpec | None = Field(default=None, description="Which Trino reads the tables in mode distributed.")
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
    resources: ResourcesSpec | None = Field(default=None, description=_RESOURCES)

    @model_validator(mode="after")
    def _trino_if_distributed(self) -> Self:
        if (self.mode == "distributed") != (self.trino is not None):
            found = f"{'no' if self.trino is None else 'a'} Trino for mode {self.mode}"
            raise contradiction("trino", found, "one for mode distributed, and none for mode single")
        return self


class MaintenanceSpec(Model):
    """Compaction, expiry of snapshots, removal of what is past retention."""

    schedule: str | None = Field(
        default=None,
        pattern=r"^[0-9*/,-]+( [0-9*/,-]+){4}$",
        max_length=100,
        description="When, as five fields of cron in UTC; none: never. No effect yet.",
    )
