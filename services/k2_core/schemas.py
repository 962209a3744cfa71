"""Where schema ids come from: the schemas that ship with K2, or a registry with Confluent's API.

Both write the same bytes on the wire, so nothing else knows which one is in use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

import httpx

from k2_core.breaker import CircuitBreaker
from k2_core.config import ServiceSettings
from k2_core.errors import RecordError, RetryableError, SchemaError
from k2_core.records import RECORD_TYPES, RecordType
from k2_core.types import TopicName

REQUEST_TIMEOUT_S: Final = 10.0


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
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S)
        self.breaker = CircuitBreaker("schema_registry", failure_threshold=3, cooldown_s=5)

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        """See `SchemaSource.by_id`."""
        answer = self._ask("GET", f"schemas/ids/{schema_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise RecordError("unknown_schema_id", f"found schema id {schema_id}, expected one that is registered")
        schema: dict[str, Any] = json.loads(self._accepted(answer).json()["schema"])
        return schema

    def id_for(self, topic: TopicName, record_type: RecordType) -> int:
        """See `SchemaSource.id_for`."""
        body = {"schemaType": "AVRO", "schema": json.dumps(record_type.avro)}
        answer = self._accepted(self._ask("POST", f"subjects/{topic}-value/versions", body))
        return int(answer.json()["id"])

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> httpx.Response:
        with self.breaker.guard():
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                raise RetryableError(f"schema registry {self._client.base_url}: {error}") from error
            if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                raise RetryableError(f"schema registry {self._client.base_url}: found HTTP {answer.status_code}")
            return answer

    def _accepted(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise SchemaError(f"schema registry refused {answer.url.path}: HTTP {answer.status_code} {answer.text}")
        return answer
