"""One K2Pipeline as the operator needs it: the spec with the operator's defaults, and which secrets it asks for.

Made from the object that the API server holds, by `reconcile` and the command `render`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_camel

from k2_core.errors import SpecError
from k2_core.spec import IngestionSpec, KafkaSpec, Pipeline, SecretKeyRef, StorageSpec, parse_pipeline
from k2_core.spec_external import TrinoSpec
from k2_core.spec_trino import TrinoClusterSpec, unreadable
from k2_core.topics import DEAD_LETTER_PARTITIONS, dead_letter_topic
from k2_core.types import TopicName
from k2_operator.config import OperatorConfig
from k2_operator.names import TRINO_MAINTAINER, TRINO_MAINTAINING, TRINO_PORT, TRINO_READING, Names

TRINO_CA_KEY: Final = "ca.crt"


@dataclass(frozen=True, slots=True)
class TrinoRun:
    """A Trino that the operator runs.

    Args:
        spec: Its nodes.
        access: The Secret with its passwords and what its nodes share.
        tls: The Secret with its certificate, and what signed it.
    """

    spec: TrinoClusterSpec
    access: str
    tls: str

    @property
    def password(self) -> SecretKeyRef:
        """The query service's."""
        return SecretKeyRef(name=self.access, key="password")

    @property
    def maintenance_password(self) -> SecretKeyRef:
        """That of maintenance."""
        return SecretKeyRef(name=self.access, key="maintenancePassword")

    @property
    def shared_secret(self) -> SecretKeyRef:
        """What its nodes know each other by."""
        return SecretKeyRef(name=self.access, key="sharedSecret")

    @property
    def authority(self) -> SecretKeyRef:
        """What signed its certificate."""
        return SecretKeyRef(name=self.tls, key=TRINO_CA_KEY)

    def secrets(self) -> Iterator[tuple[str, SecretKeyRef]]:
        """Yield every key that it needs, by the field that names the Secret."""
        for ref in (self.password, self.maintenance_password, self.shared_secret):
            yield f"{_CLUSTER}.accessSecretName ({ref.key})", ref
        for key in ("tls.crt", "tls.key", TRINO_CA_KEY):
            yield f"{_CLUSTER}.tlsSecretName ({key})", SecretKeyRef(name=self.tls, key=key)


_CLUSTER: Final = "spec.query.trinoCluster"


@dataclass(frozen=True, slots=True)
class Effective:
    """A pipeline with everything filled in.

    Args:
        pipeline: As the user wrote it.
        kafka: The pipeline's own, or the operator's default.
        storage: The pipeline's own, or the operator's default.
        api_keys: Where the API's keys are, the same; None means that there are none, and the API opens for nobody.
        trino: The Trino that the operator runs for it; None where it asks for none.
        trino_answers: Whether the query service reads with that Trino already; until then it reads with DuckDB.
    """

    pipeline: Pipeline
    kafka: KafkaSpec
    storage: StorageSpec
    api_keys: SecretKeyRef | None
    trino: TrinoRun | None = None
    trino_answers: bool = True

    @property
    def engine(self) -> TrinoSpec | None:
        """The Trino that the query service reads with, whoever runs it; None for DuckDB."""
        if self.trino is None:
            return self.pipeline.spec.query.trino
        if not self.trino_answers:
            return None
        return TrinoSpec(
            url=self.trino_url,
            catalog=TRINO_READING,
            password_secret=self.trino.password,
            ca_secret=self.trino.authority,
        )

    @property
    def maintainer(self) -> TrinoSpec | None:
        """The same Trino for the maintenance of tables, which has a login of its own in one that the operator runs."""
        if self.engine is None or self.trino is None:
            return self.engine
        own = {
            "catalog": TRINO_MAINTAINING,
            "user": TRINO_MAINTAINER,
            "password_secret": self.trino.maintenance_password,
        }
        return self.engine.model_copy(update=own)

    @property
    def trino_url(self) -> str:
        """Where a Trino that the operator runs for it answers."""
        return f"https://{self.names.trino}.{self.namespace}.svc:{TRINO_PORT}"

    @property
    def names(self) -> Names:
        """The children's names."""
        return Names(self.pipeline.metadata.name)

    @property
    def namespace(self) -> str:
        """The namespace of the resource and all its children."""
        return self.pipeline.metadata.namespace

    @property
    def decides(self) -> bool:
        """Whether a controller decides anything for it."""
        return self.pipeline.spec.decides

    @property
    def scales(self) -> bool:
        """Whether the number of sinks is the controller's."""
        return self.pipeline.spec.scaling.mode == "Auto"

    def source(self, name: str) -> IngestionSpec:
        """Return the source of a name."""
        return next(source for source in self.pipeline.spec.ingestion if source.name == name)

    @property
    def maintenance_schedule(self) -> str | None:
        """When tables are maintained, as five fields of cron in UTC; None: never. It is Trino that does it."""
        spec = self.pipeline.spec
        return spec.maintenance.schedule if self.engine is not None else None

    def topics(self) -> dict[TopicName, int]:
        """Return the topics that have to exist and their partitions, dead letters included."""
        wanted = self.pipeline.trades_topics()
        return wanted | {dead_letter_topic(topic): DEAD_LETTER_PARTITIONS for topic in wanted}

    def secrets(self) -> dict[str, SecretKeyRef]:
        """Return every secret key that the pipeline refers to, by the field that does."""
        return dict(_kafka_secrets(self.kafka)) | dict(_storage_secrets(self.storage)) | dict(self._query_secrets())

    def _query_secrets(self) -> Iterator[tuple[str, SecretKeyRef]]:
        if self.api_keys is not None:
            yield "spec.query.apiKeySecret", self.api_keys
        if self.trino is not None:
            yield from self.trino.secrets()
        if (trino := self.pipeline.spec.query.trino) is None:
            return
        for name in ("password_secret", "token_secret", "ca_secret"):
            if (ref := getattr(trino, name)) is not None:
                yield f"spec.query.trino.{to_camel(name)}", ref


def effective(body: Mapping[str, Any], config: OperatorConfig) -> Effective:
    """Return a pipeline with the operator's defaults.

    Args:
        body: The resource, as the API server or a file has it.
        config: The operator's.

    Raises:
        SpecError: The resource is wrong, names no Kafka or storage where the operator has no default, or a file of a
            laptop.
    """
    pipeline = parse_pipeline(body)
    _require_objects(pipeline)
    kafka = pipeline.spec.kafka or config.defaults.kafka
    storage = pipeline.spec.storage or config.defaults.storage
    if kafka is None:
        raise SpecError("spec.kafka", "nothing, and no default in the operator's configuration", "bootstrapServers")
    if storage is None:
        raise SpecError("spec.storage", "nothing, and no default in the operator's configuration", "a catalog")
    keys = pipeline.spec.query.api_key_secret or config.defaults.api_key_secret
    return Effective(pipeline, kafka, storage, keys, _trino(pipeline, storage, config))


def _trino(pipeline: Pipeline, storage: StorageSpec, config: OperatorConfig) -> TrinoRun | None:
    query, defaults = pipeline.spec.query, config.defaults.trino
    if not query.needs_operator:
        return None
    if (fault := unreadable(storage)) is not None:  # that of the operator's: the pipeline's own has been looked at
        field, found, expected = fault
        raise SpecError(f"spec.storage.{field}", found, expected)
    spec = query.trino_cluster or TrinoClusterSpec()
    access = spec.access_secret_name or defaults.access_secret_name
    tls = spec.tls_secret_name or defaults.tls_secret_name
    none = "nothing, and no default in the operator's configuration"
    if access is None:
        raise SpecError(
            f"{_CLUSTER}.accessSecretName", none, "a Secret's name, or an existing Trino in spec.query.trino"
        )
    if tls is None:
        raise SpecError(f"{_CLUSTER}.tlsSecretName", none, "a Secret's name")
    return TrinoRun(spec, access, tls)


def _require_objects(pipeline: Pipeline) -> None:
    """Refuse files that only a laptop has: which node a pod runs on is nobody's choice, and its disk is none of ours.

    No rule of the definition says so, as the same document may run on a laptop.
    """
    for at, source in enumerate(pipeline.spec.ingestion):
        for number, file in enumerate(source.files or ()):
            if not file.path.startswith("s3://"):
                path = f"spec.ingestion[{at}].files[{number}].path"
                raise SpecError(path, repr(file.path), "an s3:// URL, as pods have no files of their own")


def _kafka_secrets(kafka: KafkaSpec) -> Iterator[tuple[str, SecretKeyRef]]:
    if kafka.tls is not None and kafka.tls.enabled and kafka.tls.ca_secret is not None:
        yield "spec.kafka.tls.caSecret", kafka.tls.ca_secret
    if kafka.sasl is not None:
        yield "spec.kafka.sasl.usernameSecret", kafka.sasl.username_secret
        yield "spec.kafka.sasl.passwordSecret", kafka.sasl.password_secret


def _storage_secrets(storage: StorageSpec) -> Iterator[tuple[str, SecretKeyRef]]:
    if storage.catalog.uri_secret is not None:
        yield "spec.storage.catalog.uriSecret", storage.catalog.uri_secret
    if storage.s3 is not None:
        yield "spec.storage.s3.accessKeySecret", storage.s3.access_key_secret
        yield "spec.storage.s3.secretKeySecret", storage.s3.secret_key_secret
