"""Where schema ids come from: the schemas that ship with K2, or a registry with Confluent's API.

Both write the same bytes on the wire, so nothing else knows which one is in use.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import httpx

from k2_core.breaker import CircuitBreaker
from k2_core.config import ServiceSettings
from k2_core.errors import RecordError, RetryableError, SchemaError
from k2_core.records import RECORD_TYPES, RecordType
from k2_core.types import TopicName

T = TypeVar("T")

REQUEST_TIMEOUT_S: Final = 10.0
UNKNOWN_FOR_S: Final = 60.0
"""How long an id that nobody has registered is not asked for again. Producers register before they write, so it stays
unknown; foreign bytes that happen to look like ids must not cost a request each, batch after batch."""
MOST_REMEMBERED: Final = 10_000
_REFUSALS: Final = frozenset({httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY})
"""What the registry says of an incompatible schema and of an invalid one."""
_UNKNOWN_SCHEMA: Final = 40403
"""Confluent's code for an id that nobody registered (https://docs.confluent.io/platform/current/schema-registry)."""


class SchemaSource(Protocol):
    """Schemas by id, and the id to write with."""

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        """Return the writer's schema.

        Raises:
            RecordError: `unknown_schema_id`; nobody registered it.
            RetryableError: The registry did not answer.
        """

    def id_for(self, topic: TopicName, record_type: RecordType) -> int:
        """Return the id to write this record type to this topic with, registering it where that is needed.

        Raises:
            SchemaError: The registry holds an incompatible one.
            RetryableError: The registry did not answer.
        """


def schema_source(settings: ServiceSettings) -> SchemaSource:
    """Return the registry if a URL is configured, else the packaged schemas."""
    return RegistrySchemas(settings.schema_registry_url) if settings.schema_registry_url else PackagedSchemas()


class PackagedSchemas:
    """The schemas that ship with K2, under their fixed ids."""

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        """See `SchemaSource.by_id`."""
        for record_type in RECORD_TYPES.values():
            if record_type.packaged_id == schema_id:
                return record_type.avro
        known = sorted(record_type.packaged_id for record_type in RECORD_TYPES.values())
        raise RecordError("unknown_schema_id", f"found schema id {schema_id}, expected one of {known}")

    def id_for(self, topic: TopicName, record_type: RecordType) -> int:  # noqa: ARG002  # the same for every topic
        """See `SchemaSource.id_for`."""
        return record_type.packaged_id


class RegistrySchemas:
    """A schema registry with Confluent's API (Confluent, Apicurio, Karapace, Redpanda).

    Args:
        url: Its base URL, such as `http://registry:8081` or `…/apis/ccompat/v7`.
        clock: Monotonic seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._unknown: OrderedDict[int, tuple[float, RecordError]] = OrderedDict()
        # Asked a few times in a process's life: no connection is kept, so none can go stale or stay open.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, limits=limits)
        self.breaker = CircuitBreaker("schema_registry", failure_threshold=3, cooldown_s=5)

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        """See `SchemaSource.by_id`. What an id stands for never changes, so it is asked once."""
        if schema_id in self._known:
            return self._known[schema_id]
        asked_at, refusal = self._unknown.get(schema_id, (0.0, None))
        if refusal is not None and self._clock() - asked_at < UNKNOWN_FOR_S:
            raise refusal.with_traceback(None)
        try:
            found = self._ask_for(schema_id)
        except RecordError as error:
            self._unknown.pop(schema_id, None)
            _remember(self._unknown, schema_id, (self._clock(), error))
            raise
        _remember(self._known, schema_id, found)
        return found

    def _ask_for(self, schema_id: int) -> Mapping[str, Any]:
        document = self._document(self._ask("GET", f"schemas/ids/{schema_id}"))
        if document.get("error_code") == _UNKNOWN_SCHEMA:
            raise RecordError("unknown_schema_id", f"found schema id {schema_id}, expected one that is registered")
        kind = document.get("schemaType", "AVRO")  # left out for Avro
        schema = json.loads(document["schema"]) if kind == "AVRO" else None
        if not isinstance(schema, dict):
            raise RecordError("foreign_schema", f"found schema id {schema_id} of {kind}, expected a record of AVRO")
        return schema

    def id_for(self, topic: TopicName, record_type: RecordType) -> int:
        """See `SchemaSource.id_for`."""
        body = {"schemaType": "AVRO", "schema": json.dumps(record_type.avro)}
        return int(self._document(self._ask("POST", f"subjects/{topic}-value/versions", body))["id"])

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> httpx.Response:
        with self.breaker.guard():
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                raise RetryableError(f"schema registry {self._client.base_url}: {error}") from error
            if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                raise RetryableError(f"schema registry {self._client.base_url}: found HTTP {answer.status_code}")
            return answer

    def _document(self, answer: httpx.Response) -> Mapping[str, Any]:
        """Return what the registry says, be it that there is no such schema.

        A 404 alone says nothing of the schema: a wrong base URL gives it too, and must not send good records away.
        Whoever answers in another form is not the registry, or not yet, and is asked again until people have healed it.

        Raises:
            RetryableError: The answer is not of Confluent's API.
            SchemaError: The registry refuses, in its own words.
        """
        try:
            document = answer.json()
        except ValueError:
            document = None
        code = document.get("error_code") if isinstance(document, dict) else None
        if isinstance(document, dict) and (not answer.is_error or code == _UNKNOWN_SCHEMA):
            return document
        found = f"schema registry {answer.url}: found HTTP {answer.status_code} {' '.join(answer.text.split())[:500]}"
        if answer.status_code in _REFUSALS:
            raise SchemaError(f"{found}, expected the schema to be accepted")
        raise RetryableError(f"{found}, expected an answer of Confluent's API")


def _remember(cache: OrderedDict[int, T], schema_id: int, value: T) -> None:
    cache[schema_id] = value
    while len(cache) > MOST_REMEMBERED:
        cache.popitem(last=False)
