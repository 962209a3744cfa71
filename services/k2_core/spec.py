"""The K2Pipeline resource: one YAML file for a laptop and for a cluster.

Mirrors the custom resource `k2.dev/v1alpha1` field by field (camelCase outside, snake_case inside). Every service, the
command line and the operator read a pipeline through `load_pipeline` or `parse_pipeline` only. Pure but for the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from k2_core.errors import SpecError
from k2_core.topics import topic_name
from k2_core.types import Symbol, TopicName

API_VERSION: Final = "k2.dev/v1alpha1"
KIND: Final = "K2Pipeline"

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label, as Kubernetes wants for names."""
SymbolName = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9._-]{0,31}$")]
WebSocketUrl = Annotated[str, Field(pattern=r"^wss?://[^/\s]+$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True)


class SecretKeyRef(_Model):
    """Where a secret value is; never the value."""

    name: Name
    key: str


class TlsSpec(_Model):
    """TLS towards Kafka, always verified; `ca_secret` names a CA that the system does not know."""

    enabled: bool = True
    ca_secret: SecretKeyRef | None = None


class SaslSpec(_Model):
    """SASL towards Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username_secret: SecretKeyRef
    password_secret: SecretKeyRef


class KafkaSpec(_Model):
    """A Kafka that exists already; without this part the laptop or the chart brings one."""

    bootstrap_servers: str = Field(pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$")
    schema_registry_url: str | None = None
    tls: TlsSpec | None = None
    sasl: SaslSpec | None = None
    replication_factor: int = Field(default=3, ge=1, le=9)


class CatalogSpec(_Model):
    """The Iceberg catalog: `sql` (a SQLAlchemy URI) or `rest` (a URL). A URI with a password belongs in the secret."""

    type: Literal["sql", "rest"] = "sql"
    uri: str | None = None
    uri_secret: SecretKeyRef | None = None

    @model_validator(mode="after")
    def _one_uri(self) -> CatalogSpec:
        if (self.uri is None) == (self.uri_secret is None):
            raise ValueError("expected exactly one of uri and uriSecret")
        return self


class S3Spec(_Model):
    """Object storage that speaks S3."""

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_secret: SecretKeyRef
    secret_key_secret: SecretKeyRef


class StorageSpec(_Model):
    """A catalog and a warehouse that exist already; without this part the laptop or the chart brings them."""

    catalog: CatalogSpec
    warehouse: str
    s3: S3Spec | None = None


class SymbolSpec(_Model):
    """A symbol to ingest, and how soon it may be deferred under load."""

    name: SymbolName
    priority: Literal["critical", "normal", "low"] = "normal"


class IngestionSpec(_Model):
    """One source. Its Deployment and its part of metrics carry `name`."""

    name: Name
    venue: Literal["binance"]
    market: Literal["spot"] = "spot"
    asset_class: Literal["crypto"] = "crypto"
    url: WebSocketUrl = "wss://stream.binance.com:9443"
    rest_url: HttpUrl = "https://api.binance.com"
    symbols: tuple[SymbolSpec, ...] = Field(min_length=1, max_length=1024)
    partitions: int = Field(default=50, ge=1, le=1000)

    @model_validator(mode="after")
    def _distinct_symbols(self) -> IngestionSpec:
        seen: set[str] = set()
        for symbol in self.symbols:
            if symbol.name in seen:
                raise ValueError(f"symbol {symbol.name} is listed twice, expected once")
            seen.add(symbol.name)
        return self

    @property
    def symbol_names(self) -> tuple[Symbol, ...]:
        """The symbols in the order of the file."""
        return tuple(Symbol(symbol.name) for symbol in self.symbols)


class SinkSpec(_Model):
    """Kafka into Iceberg. A commit happens after the interval or the number of records, whichever comes first."""

    replicas: int = Field(default=1, ge=1, le=100)
    commit_interval_seconds: float = Field(default=10, ge=0.5, le=3600)
    commit_records: int = Field(default=500_000, ge=1_000, le=2_000_000)
    compression_level: int = Field(default=3, ge=1, le=19)


class QuerySpec(_Model):
    """The query API. `commit_lag_seconds` only decides when an answer carries a warning."""

    mode: Literal["single"] = "single"
    replicas: int = Field(default=1, ge=1, le=100)
    port: int = Field(default=8000, ge=1024, le=65535)
    api_key_secret: SecretKeyRef | None = None
    commit_lag_seconds: float = Field(default=120, ge=1)
    tail_max_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)


class PipelineSpec(_Model):
    """What a pipeline does. `namespace` prefixes its topics and tables."""

    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")] = "market"
    kafka: KafkaSpec | None = None
    storage: StorageSpec | None = None
    ingestion: tuple[IngestionSpec, ...] = Field(min_length=1, max_length=50)
    sink: SinkSpec = SinkSpec()
    query: QuerySpec = QuerySpec()

    @model_validator(mode="after")
    def _distinct_names(self) -> PipelineSpec:
        names = [source.name for source in self.ingestion]
        if len(set(names)) < len(names):
            raise ValueError(f"ingestion names {names} repeat, expected distinct ones")
        return self


class Metadata(_Model):
    """The part of Kubernetes' metadata that K2 reads; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore")

    name: Name
    namespace: Name = "default"
    uid: str | None = None
    generation: int | None = None


class Pipeline(_Model):
    """A K2Pipeline."""

    api_version: Literal["k2.dev/v1alpha1"]
    kind: Literal["K2Pipeline"]
    metadata: Metadata
    spec: PipelineSpec

    @property
    def uid(self) -> str:
        """What owns the tables: the resource's uid in a cluster, its name on a laptop."""
        return self.metadata.uid or f"local/{self.metadata.namespace}/{self.metadata.name}"

    @property
    def sink_group(self) -> str:
        """The consumer group to which the sinks write their read positions."""
        return f"k2.{self.spec.namespace}.{self.metadata.name}.sink"

    def trades_topic(self, source: IngestionSpec) -> TopicName:
        """Return the topic that a source's trades go to; sources of one venue share it."""
        return topic_name(self.spec.namespace, source.asset_class, "trades", source.venue)

    def trades_topics(self) -> dict[TopicName, int]:
        """Return every trades topic of the pipeline and its partitions: the most that any source asks for."""
        topics: dict[TopicName, int] = {}
        for source in self.spec.ingestion:
            topic = self.trades_topic(source)
            topics[topic] = max(topics.get(topic, 0), source.partitions)
        return topics


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline from a YAML file.

    Raises:
        SpecError: The file is missing, no YAML, or no K2Pipeline; names the path, what was found and expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("", f"{path} ({error})", "a readable UTF-8 file") from error
    try:
        document = yaml.load(text, _UniqueKeyLoader)  # noqa: S506  # a SafeLoader that refuses repeated keys
    except yaml.YAMLError as error:
        raise SpecError("", f"{path}: {' '.join(str(error).split())}", "one YAML document") from error
    return parse_pipeline(document)


def parse_pipeline(document: object) -> Pipeline:
    """Check a parsed document.

    Raises:
        SpecError: As `load_pipeline`; for the first of several faults, with their number.
    """
    if not isinstance(document, Mapping):
        raise SpecError("", f"a document of type {type(document).__name__}", f"a mapping with kind: {KIND}")
    fields = {key: value for key, value in document.items() if key != "status"}
    try:
        return Pipeline.model_validate(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _spec_error(error.errors()) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake and not a silent choice of the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # the loader itself refuses lists and mappings as keys
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key {key.value!r} twice, expected once", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _spec_error(errors: list[ErrorDetails]) -> SpecError:
    errors = [error for error in errors if not _is_echo(error)]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    match first["type"]:
        case "missing":
            found, expected = "nothing", "a value"
        case "extra_forbidden":
            found, expected = "an unknown key", "only keys that the resource has"
        case "value_error":
            found, _, expected = str(first["ctx"]["error"]).rpartition(", expected ")
            found, expected = (found or "a contradiction"), expected.removeprefix("expected ")
        case _:
            found, expected = _shown(first["input"]), _lower_first(first["msg"]).removeprefix("input should be ")
    return SpecError(_dotted(first["loc"]), found, expected + more)


def _is_echo(error: ErrorDetails) -> bool:
    """Whether it only repeats another: pydantic counts wrong items as missing, so a list with one is "too short"."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _dotted(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")
