"""The K2Pipeline resource: one YAML file for a laptop and for a cluster.

Mirrors the custom resource `k2.dev/v1alpha1` field by field (camelCase outside, snake_case inside). Every service, the
command line and the operator read a pipeline through `load_pipeline` or `parse_pipeline` only. Pure but for the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_snake
from pydantic_core import ErrorDetails

from k2_core.errors import SpecError
from k2_core.spec_external import CatalogSpec, KafkaSpec, RedisSpec, S3Spec, SaslSpec, StorageSpec, TlsSpec
from k2_core.spec_fields import (
    CONTRADICTION,
    Model,
    Name,
    ResourcesSpec,
    SecretKeyRef,
    contradiction,
    keyed_by_name,
    rule,
    rules,
    unchanging,
)
from k2_core.spec_ingestion import FileSpec, IngestionSpec, SymbolSpec
from k2_core.spec_policy import DegradationSpec, ScalingSpec
from k2_core.spec_services import MaintenanceSpec, QuerySpec, SinkSpec
from k2_core.spec_trino import READABLE_CATALOG, TrinoClusterSpec, unreadable
from k2_core.topics import topic_name
from k2_core.types import TopicName
from k2_core.yaml_file import read_document

__all__ = [
    "API_VERSION",
    "KIND",
    "CatalogSpec",
    "DegradationSpec",
    "FileSpec",
    "IngestionSpec",
    "KafkaSpec",
    "MaintenanceSpec",
    "Metadata",
    "Pipeline",
    "PipelineSpec",
    "QuerySpec",
    "RedisSpec",
    "ResourcesSpec",
    "S3Spec",
    "SaslSpec",
    "ScalingSpec",
    "SecretKeyRef",
    "SinkSpec",
    "StorageSpec",
    "SymbolSpec",
    "TlsSpec",
    "TrinoClusterSpec",
    "inactive_settings",
    "load_pipeline",
    "parse_pipeline",
    "pipeline_faults",
]

API_VERSION: Final = "k2.dev/v1alpha1"
KIND: Final = "K2Pipeline"

_CLUSTER_AND_STORAGE: Final = "self.query.mode != 'distributed' || has(self.query.trino) || !has(self.storage)"

PipelineName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$", max_length=50)]
"""Starts with a letter and leaves room for suffixes, as Services and Jobs are named after the pipeline."""


class PipelineSpec(Model):
    """What a pipeline does."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.storage) == has(oldSelf.storage)",
                "storage can be neither added nor removed: other storage is another pipeline",
                field=".storage",
            ),
            rule(
                "!has(self.scaling.maxCommitIntervalSeconds) || "
                "self.scaling.maxCommitIntervalSeconds >= self.sink.commitIntervalSeconds",
                "expected at least sink.commitIntervalSeconds",
                field=".scaling.maxCommitIntervalSeconds",
            ),
            rule(
                f"{_CLUSTER_AND_STORAGE} || has(self.storage.s3)",
                "found no S3 for a Trino that the operator runs, expected s3 and a warehouse at s3://",
                field=".storage.s3",
            ),
            rule(
                f"{_CLUSTER_AND_STORAGE} || !has(self.storage.catalog.uri) || "
                f"self.storage.catalog.uri.matches('{READABLE_CATALOG}')",
                "expected PostgreSQL or a REST catalog, which a Trino that the operator runs reads",
                field=".storage.catalog.uri",
            ),
        )
    )

    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$", max_length=31)] = Field(
        default="market",
        description="First part of the names of topics and tables. Cannot change.",
        json_schema_extra=unchanging("topics and tables are named after it"),
    )
    suspend: bool = Field(
        default=False, description="true: ingestion stops, the sink commits what is there, then all pods go."
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="Whether topics and tables outlive the resource; with Delete they go with it.",
    )
    kafka: KafkaSpec | None = Field(default=None, description="A Kafka that exists already; none: the chart's.")
    storage: StorageSpec | None = Field(
        default=None, description="A catalog and a warehouse that exist already; none: the chart's. Cannot change."
    )
    redis: RedisSpec | None = Field(default=None, description="A Redis that exists already. No effect yet.")
    ingestion: tuple[IngestionSpec, ...] = Field(
        min_length=1,
        max_length=50,
        strict=False,
        description="The sources.",
        json_schema_extra=keyed_by_name(),
    )
    sink: SinkSpec = Field(default=SinkSpec(), description="Kafka into Iceberg.")
    query: QuerySpec = Field(default=QuerySpec(), description="The query API.")
    maintenance: MaintenanceSpec = Field(default=MaintenanceSpec(), description="Upkeep of the tables.")
    scaling: ScalingSpec = Field(default=ScalingSpec(), description="How many sinks there are, from lag.")
    degradation: DegradationSpec = Field(default=DegradationSpec(), description="What is deferred, from lag.")

    @property
    def decides(self) -> bool:
        """Whether a controller decides anything for it."""
        return self.scaling.mode != "Off" or self.degradation.mode != "Off"

    @model_validator(mode="after")
    def _distinct_names(self) -> Self:
        seen: set[str] = set()
        for at, source in enumerate(self.ingestion):
            if source.name in seen:
                raise contradiction(f"ingestion[{at}]", f"{source.name} a second time", "each name once")
            seen.add(source.name)
        return self

    @model_validator(mode="after")
    def _commit_interval_in_bounds(self) -> Self:
        longest_seconds, interval_seconds = self.scaling.max_commit_interval_seconds, self.sink.commit_interval_seconds
        if longest_seconds is not None and longest_seconds < interval_seconds:
            expected = f"at least sink.commitIntervalSeconds, {interval_seconds}"
            raise contradiction("scaling.maxCommitIntervalSeconds", f"{longest_seconds}", expected)
        return self

    @model_validator(mode="after")
    def _storage_for_trino(self) -> Self:
        if self.query.needs_operator and self.storage is not None and (fault := unreadable(self.storage)) is not None:
            field, found, expected = fault
            raise contradiction(f"storage.{field}", found, expected)
        return self


class Metadata(Model):
    """The part of Kubernetes' metadata that K2 reads; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore")

    name: PipelineName
    namespace: Name = "default"
    uid: str | None = None
    generation: int | None = None


class Pipeline(Model):
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

    @property
    def committed_group(self) -> str:
        """The group, without members, that holds what the table has taken in; see `k2_core.commit_signal`."""
        return f"k2.{self.spec.namespace}.{self.metadata.name}.committed"

    @property
    def engine_group(self) -> str:
        """The group, without members, that holds what query services say of Trino; see `k2_core.engine_report`."""
        return f"k2.{self.spec.namespace}.{self.metadata.name}.engine"

    @property
    def symbols_group(self) -> str:
        """The group, without members, that holds what ingests say of its symbols; see `k2_core.symbols_report`."""
        return f"k2.{self.spec.namespace}.{self.metadata.name}.symbols"

    @property
    def listens(self) -> bool:
        """Whether a source is an exchange."""
        return any(not source.reads_files for source in self.spec.ingestion)

    @property
    def control_name(self) -> str:
        """What the pipeline is called in the control topic; see `k2_core.control`."""
        return f"{self.spec.namespace}.{self.metadata.name}"

    def trades_topic(self, source: IngestionSpec) -> TopicName:
        """Return the topic that a source's trades go to; sources of one venue share it."""
        return topic_name(self.spec.namespace, source.traded, "trades", source.venue)

    def trades_topics(self) -> dict[TopicName, int]:
        """Return every trades topic of the pipeline and its partitions: the most that any source asks for."""
        topics: dict[TopicName, int] = {}
        for source in self.spec.ingestion:
            topic = self.trades_topic(source)
            topics[topic] = max(topics.get(topic, 0), source.topic_partitions)
        return topics


def inactive_settings(pipeline: Pipeline, *, laptop: bool = False) -> tuple[str, ...]:
    """Return the paths of settings that differ from their default and have no effect, in the order of the spec.

    Nothing is ignored silently: `k2 up` prints them, the operator puts them into the condition ConfigValid.

    Args:
        pipeline: What was asked for.
        laptop: Whether there is no operator, so that what only it does has no effect either.
    """
    scheduled = pipeline.spec.query.mode == "distributed" and not laptop
    upkeep = () if scheduled else (_SCHEDULE,)
    aging = pipeline.spec.storage is not None and pipeline.spec.storage.retention_days is not None
    if pipeline.spec.query.mode != "distributed" and not aging:
        upkeep = (*upkeep, _SNAPSHOTS)
    paths = (*_INACTIVE, *upkeep, *(_OPERATORS if laptop else ()))
    return tuple(path for path in paths if _is_set(pipeline.spec, path))


_SCHEDULE: Final = "spec.maintenance.schedule"
"""Of what Trino does, when the operator says so: in mode single there is none, on a laptop there is `k2 maintain`."""
_SNAPSHOTS: Final = "spec.maintenance.snapshotRetentionDays"
"""Of what Trino does for `k2 maintain`, too, and of what a sink does where rows are not kept for ever."""
_INACTIVE: Final = ("spec.redis",)
_OPERATORS: Final = (
    "spec.suspend",
    "spec.deletionPolicy",
    "spec.ingestion[].resources",
    "spec.sink.resources",
    "spec.query.replicas",
    "spec.query.resources",
)


def _is_set(spec: PipelineSpec, path: str) -> bool:
    """Whether any of the fields that a path leads to has another value than its default."""
    *parents, last = (to_snake(part) for part in path.removeprefix("spec.").replace("[]", "").split("."))
    models: list[Model] = [spec]
    for part in parents:
        models = [model for parent in models for model in _models(getattr(parent, part))]
    return any(getattr(model, last) != type(model).model_fields[last].default for model in models)


def _models(value: object) -> Iterator[Model]:
    if isinstance(value, tuple):
        yield from value
    elif isinstance(value, Model):
        yield value


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline from a YAML file.

    Raises:
        SpecError: The file is missing, no YAML, or no K2Pipeline; names the path, what was found and expected.
    """
    return parse_pipeline(read_document(path))


def parse_pipeline(document: object) -> Pipeline:
    """Check a parsed document.

    Raises:
        SpecError: As `load_pipeline`; for the first of several faults, with their number.
    """
    try:
        return _validated(document)
    except ValidationError as error:
        first, *others = _faults(error)
        more = f" (and {len(others)} more)" if others else ""
        raise SpecError(first.path, first.found, first.expected + more) from error


def pipeline_faults(document: object) -> tuple[SpecError, ...]:
    """Return everything that is wrong with a parsed document; nothing, if it is a pipeline."""
    try:
        _validated(document)
    except ValidationError as error:
        return _faults(error)
    except SpecError as error:
        return (error,)
    return ()


def _validated(document: object) -> Pipeline:
    if not isinstance(document, Mapping):
        raise SpecError("", f"a document of type {type(document).__name__}", f"a mapping with kind: {KIND}")
    fields = {key: value for key, value in document.items() if key != "status"}
    return Pipeline.model_validate(fields, by_alias=True, by_name=False)


def _faults(error: ValidationError) -> tuple[SpecError, ...]:
    return tuple(_fault(details) for details in error.errors() if not _is_echo(details))


def _fault(error: ErrorDetails) -> SpecError:
    location = _dotted(error["loc"])
    match error["type"]:
        case "missing":
            return SpecError(location, "nothing", "a value")
        case "extra_forbidden":
            return SpecError(location, "an unknown key", "only keys that the resource has")
        case kind if kind == CONTRADICTION:
            context = error["ctx"]
            return SpecError(f"{location}.{context['field']}", context["found"], context["expected"])
    return SpecError(location, _shown(error["input"]), _lower_first(error["msg"]).removeprefix("input should be "))


def _is_echo(error: ErrorDetails) -> bool:
    """Whether it only repeats another: pydantic counts wrong items as missing, so a list with one is "too short"."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


_LOGIN: Final = re.compile(r"//[^/@]*@")
"""Of a URL; it may hold a password, and messages go into logs and status."""


def _shown(value: object) -> str:
    text = _LOGIN.sub("//***@", repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _dotted(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")
