"""Schema ids from the package, and from a real registry that is there, refuses, stops and comes back."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import httpx
import pytest

from k2_core import schemas as module
from k2_core.breaker import BreakerState, CircuitBreaker
from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.errors import CircuitOpenError, RecordError, RetryableError, SchemaError
from k2_core.records import QUOTES, RECORD_TYPES, TRADES, RecordType
from k2_core.schemas import PackagedSchemas, RegistrySchemas, schema_source
from k2_core.types import TopicName
from support.records import encode, make_trades, plain_rows
from support.registry import API_PATH, LocalRegistry, Relay, unique_topic

FREE_OF_SERVERS = "http://127.0.0.1:1"
UNKNOWN_ID = 2_000_000


def register(registry: LocalRegistry, subject: str, schema: str, kind: str = "AVRO") -> int:
    body = {"schemaType": kind, "schema": schema}
    answer = httpx.post(f"{registry.url}/subjects/{subject}/versions", json=body).raise_for_status()
    return int(answer.json()["id"])


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything, as a proxy in front of a registry does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestPackaged:
    @pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=lambda kind: kind.name)
    def test_the_id_to_write_with_leads_back_to_the_schema(self, record_type: RecordType) -> None:
        schemas = PackagedSchemas()
        assert schemas.by_id(schemas.id_for(TopicName("any"), record_type)) == record_type.avro

    def test_ids_are_distinct_and_for_ever(self) -> None:
        # On the wire for years: a changed id makes old logs unreadable.
        assert {kind.name: kind.packaged_id for kind in RECORD_TYPES.values()} == {
            "trades": 1_000_001,
            "quotes": 1_000_002,
        }

    def test_unknown_id_is_a_record_error_that_names_the_known(self) -> None:
        with pytest.raises(RecordError, match=r"found schema id 7, expected one of \[1000001, 1000002\]") as caught:
            PackagedSchemas().by_id(7)
        assert caught.value.reason == "unknown_schema_id"


class TestChoice:
    def test_without_a_url_the_package(self) -> None:
        assert isinstance(schema_source(ServiceSettings()), PackagedSchemas)

    def test_with_a_url_the_registry(self) -> None:
        assert isinstance(schema_source(ServiceSettings(schema_registry_url=FREE_OF_SERVERS)), RegistrySchemas)


class TestRegistry:
    def test_registers_and_reads_back(self, registry: LocalRegistry) -> None:
        schemas = RegistrySchemas(registry.url)
        schema_id = schemas.id_for(unique_topic(), TRADES)
        assert fastavro.parse_schema(dict(schemas.by_id(schema_id))) == fastavro.parse_schema(dict(TRADES.avro))

    def test_the_subject_is_the_topics_value(self, registry: LocalRegistry) -> None:
        topic = unique_topic()
        schema_id = RegistrySchemas(registry.url).id_for(topic, TRADES)
        latest = httpx.get(f"{registry.url}/subjects/{topic}-value/versions/latest").raise_for_status().json()
        assert (latest["id"], latest["version"]) == (schema_id, 1)

    def test_the_same_schema_gets_the_same_id(self, registry: LocalRegistry) -> None:
        topic = unique_topic()
        first = RegistrySchemas(registry.url).id_for(topic, TRADES)
        assert RegistrySchemas(registry.url).id_for(topic, TRADES) == first

    def test_trades_and_quotes_have_different_ids(self, registry: LocalRegistry) -> None:
        schemas = RegistrySchemas(registry.url)
        assert schemas.id_for(unique_topic(), TRADES) != schemas.id_for(unique_topic(), QUOTES)

    def test_unknown_id_is_a_record_error(self, registry: LocalRegistry) -> None:
        with pytest.raises(RecordError, match=f"found schema id {UNKNOWN_ID}, expected one that is") as caught:
            RegistrySchemas(registry.url).by_id(UNKNOWN_ID)
        assert caught.value.reason == "unknown_schema_id"

    def test_incompatible_schema_is_refused(self, registry: LocalRegistry) -> None:
        topic = unique_topic()
        other: Any = copy.deepcopy(TRADES.avro)
        next(field for field in other["fields"] if field["name"] == "symbol")["type"] = "long"
        register(registry, f"{topic}-value", json.dumps(other))
        rule = {"compatibility": "BACKWARD"}
        httpx.put(f"{registry.url}/config/{topic}-value", json=rule).raise_for_status()
        schemas = RegistrySchemas(registry.url)
        with pytest.raises(SchemaError, match=r"found HTTP 409 .*LONG"):
            schemas.id_for(topic, TRADES)
        assert schemas.breaker.state is BreakerState.CLOSED

    @pytest.mark.parametrize(
        ("kind", "schema"),
        [
            pytest.param("PROTOBUF", 'syntax = "proto3"; message Trade { string symbol = 1; }', id="protobuf"),
            pytest.param(
                "JSON", '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}', id="json-schema"
            ),
            pytest.param("AVRO", '"string"', id="avro-string"),
        ],
    )
    def test_a_registered_schema_that_is_no_avro_record_is_a_record_error(
        self, registry: LocalRegistry, kind: str, schema: str
    ) -> None:
        schema_id = register(registry, unique_topic(), schema, kind)
        with pytest.raises(RecordError, match=f"found schema id {schema_id} of {kind}") as caught:
            RegistrySchemas(registry.url).by_id(schema_id)
        assert caught.value.reason == "foreign_schema"

    def test_values_with_the_registrys_id_decode(self, registry: LocalRegistry) -> None:
        schemas = RegistrySchemas(registry.url)
        schema_id = schemas.id_for(unique_topic(), TRADES)
        trades = make_trades(50)
        decoded = BatchDecoder(TRADES, schemas.by_id).decode([encode(trade, schema_id=schema_id) for trade in trades])
        assert decoded.rejected == ()
        assert plain_rows(decoded.rows) == trades

    def test_one_value_of_an_unregistered_id_costs_only_itself(self, registry: LocalRegistry) -> None:
        schemas = RegistrySchemas(registry.url)
        schema_id = schemas.id_for(unique_topic(), TRADES)
        trades = make_trades(3)
        ids = [schema_id, UNKNOWN_ID, schema_id]
        values = [encode(trade, schema_id=an_id) for trade, an_id in zip(trades, ids, strict=True)]
        decoded = BatchDecoder(TRADES, schemas.by_id).decode(values)
        assert [(bad.index, bad.reason) for bad in decoded.rejected] == [(1, "unknown_schema_id")]
        assert plain_rows(decoded.rows) == [trades[0], trades[2]]


class TestWrongAddress:
    """A wrong URL must hold the service up until it is healed, and not send every record to the dead letters."""

    def test_another_path_of_the_registry(self, registry: LocalRegistry) -> None:
        schemas = RegistrySchemas(registry.url.removesuffix(API_PATH) + "/apis/elsewhere")
        with pytest.raises(RetryableError, match=r"found HTTP 404 .*expected an answer of Confluent's API"):
            schemas.by_id(1)

    def test_a_web_page(self) -> None:
        with answering(200, b"<html>sign in</html>") as url, pytest.raises(RetryableError, match="sign in"):
            RegistrySchemas(url).by_id(1)

    def test_json_that_is_no_object(self) -> None:
        with answering(200, b"[]") as url, pytest.raises(RetryableError, match="found HTTP 200"):
            RegistrySchemas(url).by_id(1)


class TestMemory:
    """What the registry said once is not asked again, so that foreign bytes cost a request an id and not a batch."""

    def test_an_unknown_id_is_asked_once_a_minute(self, registry: LocalRegistry) -> None:
        now_s = [0.0]
        relay = Relay(registry.port)
        relay.open()
        schemas = RegistrySchemas(f"http://127.0.0.1:{relay.port}{API_PATH}", clock=lambda: now_s[0])
        try:
            with pytest.raises(RecordError, match="unknown_schema_id"):
                schemas.by_id(UNKNOWN_ID)
        finally:
            relay.close()
        now_s[0] = 59.0
        for _ in range(100):
            with pytest.raises(RecordError, match="unknown_schema_id"):
                schemas.by_id(UNKNOWN_ID)
        now_s[0] = 61.0
        with pytest.raises(RetryableError, match="schema registry http"):
            schemas.by_id(UNKNOWN_ID)

    def test_a_known_one_is_asked_once(self, registry: LocalRegistry) -> None:
        relay = Relay(registry.port)
        relay.open()
        schemas = RegistrySchemas(f"http://127.0.0.1:{relay.port}{API_PATH}")
        try:
            schema_id = schemas.id_for(unique_topic(), TRADES)
            first = schemas.by_id(schema_id)
        finally:
            relay.close()
        assert schemas.by_id(schema_id) is first

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
        with answering(404, b'{"error_code": 40403, "message": "none"}') as url:
            schemas = RegistrySchemas(url)
            for schema_id in range(10):
                with pytest.raises(RecordError):
                    schemas.by_id(schema_id)
        assert list(schemas._unknown) == [7, 8, 9]


class TestAway:
    @pytest.mark.parametrize("status", [500, 503, 429], ids=str)
    def test_an_overloaded_registry_is_retryable(self, status: int) -> None:
        with answering(status, b"{}") as url, pytest.raises(RetryableError, match=f"found HTTP {status}"):
            RegistrySchemas(url).by_id(1)

    def test_nobody_listens(self) -> None:
        with pytest.raises(RetryableError, match=r"schema registry http://127\.0\.0\.1:1"):
            RegistrySchemas(FREE_OF_SERVERS).by_id(1)

    def test_nothing_is_decoded_or_rejected_meanwhile(self) -> None:
        decoder = BatchDecoder(TRADES, RegistrySchemas(FREE_OF_SERVERS).by_id)
        with pytest.raises(RetryableError):
            decoder.decode([encode(make_trades(1)[0], schema_id=1)])

    def test_it_stops_and_comes_back(self, registry: LocalRegistry) -> None:
        now_s = [0.0]
        relay = Relay(registry.port)
        relay.open()
        try:
            schemas = RegistrySchemas(f"http://127.0.0.1:{relay.port}{API_PATH}")
            schemas.breaker = CircuitBreaker(
                "schema_registry", failure_threshold=3, cooldown_s=5, clock=lambda: now_s[0]
            )
            topic = unique_topic()
            schema_id = schemas.id_for(topic, TRADES)
            relay.close()
            for _ in range(3):
                with pytest.raises(RetryableError):
                    schemas.by_id(schema_id)
            with pytest.raises(CircuitOpenError, match="schema_registry: 3 failures in a row, circuit is OPEN"):
                schemas.by_id(schema_id)
            states = [schemas.breaker.state]
            now_s[0] = 5.0
            states.append(schemas.breaker.state)
            with pytest.raises(RetryableError, match="schema registry http"):
                schemas.by_id(schema_id)  # the trial call
            states.append(schemas.breaker.state)
            assert states == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN]
            relay.open()
            now_s[0] = 10.0
            assert schemas.by_id(schema_id)["name"] == "TradeV2"
            assert schemas.breaker.state is BreakerState.CLOSED
        finally:
            relay.close()
