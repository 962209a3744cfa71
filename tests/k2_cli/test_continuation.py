"""k2_cli.continuation on records of the real encoder in a real Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from k2_cli import pipelines
from k2_cli.continuation import next_ids, trade_of
from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from k2_core.kafka import KafkaAdmin
from k2_core.spec import Pipeline, parse_pipeline
from k2_core.topics import partition_of
from k2_core.types import Symbol
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.trade import Trade


def encoded(symbol: str, trade_id: int) -> bytes:
    encoder = TradeEncoder(Identity("binance", "spot", "crypto", Symbol(symbol)), 1_000_001)
    return encoder.encode(Trade(Symbol(symbol), trade_id, True, 10**8, 10**8, 1_700_000_000_000_000, ()), 1)


def test_the_first_field_of_a_record_says_symbol_and_id() -> None:
    assert trade_of(encoded("BTCUSDT", 4_000_000_001)) == ("BTCUSDT", 4_000_000_001)
    long = "A" * 32  # an id of more than 63 characters has a length of two bytes
    assert trade_of(encoded(long, 2**62)) == (long, 2**62)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\0\0\0\1\x80", id="cut off"),
        pytest.param(b"\0\0\0\0\1\x06abc", id="no message id"),
        pytest.param(b"\0\0\0\0\1\x12a:b:c:row", id="no number"),
    ],
)
def test_what_is_no_numbered_trade_is_passed_over(value: bytes) -> None:
    assert trade_of(value) is None


def pipeline(namespace: str) -> Pipeline:
    document = pipelines.resolve(None, ["BTCUSDT", "ETHUSDT", "BNBUSDT"]).model_dump(mode="json", by_alias=True)
    document["spec"]["namespace"] = namespace
    document["spec"]["ingestion"][0]["partitions"] = 2
    return parse_pipeline(document)


@pytest.mark.kafka
def test_ids_go_on_at_the_end_of_the_log(kafka: LocalKafka) -> None:
    settings = ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
    running = pipeline("continuation")
    assert next_ids(settings, running) == {}  # no topic yet
    [topic] = running.trades_topics()
    KafkaAdmin(settings).ensure_topics({topic: 2})
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for symbol, first in (("BTCUSDT", 100), ("ETHUSDT", 500)):
        for trade_id in (first, first + 2, first + 1):
            at = partition_of(Symbol(symbol), 2)
            producer.produce(topic, value=encoded(symbol, trade_id), key=symbol.encode(), partition=at)
    producer.produce(topic, value=b"foreign", partition=0)
    producer.flush()
    assert next_ids(settings, running) == {"BTCUSDT": 103, "ETHUSDT": 503}
