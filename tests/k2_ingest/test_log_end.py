"""Where sequences continue: the end of a real log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from k2_cli.stack.kafka import LocalKafka
from k2_core.schemas import PackagedSchemas
from k2_core.topics import partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest import log_end
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.log_end import LogEnd
from k2_ingest.settings import IngestSettings
from k2_ingest.trade import Trade
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka

BTC, ETH, SOL = Symbol("BTCUSDT"), Symbol("ETHUSDT"), Symbol("SOLUSDT")
Fill = Callable[[list[tuple[Symbol, int]]], None]


@pytest.fixture
def topic(topic_factory: TopicFactory) -> TopicName:
    return TopicName(topic_factory("trades", partitions=2))


@pytest.fixture
def fill(kafka: LocalKafka, topic: TopicName) -> Fill:
    def write(trades: list[tuple[Symbol, int]]) -> None:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 5})
        for symbol, trade_id in trades:
            trade = Trade(symbol, trade_id, True, 1, 1, 1_700_000_000_000_000, ())
            value = TradeEncoder(Identity("binance", "spot", "crypto", symbol)).encode(trade, 1_700_000_000_000_000)
            producer.produce(topic, value, partition=partition_of(symbol, 2))
        producer.flush()
        producer.close()

    return write


@pytest.fixture
def end(kafka: LocalKafka, topic: TopicName) -> LogEnd:
    settings = IngestSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
    return LogEnd(settings, topic, 2, PackagedSchemas())


def test_an_empty_log_has_no_sequences(end: LogEnd) -> None:
    assert end.last_sequences([BTC, ETH]) == {}


def test_each_symbol_continues_at_its_highest_id(end: LogEnd, fill: Fill) -> None:
    fill([(BTC, 5), (ETH, 7), (BTC, 6), (BTC, 4), (ETH, 8)])
    assert end.last_sequences([BTC, ETH, SOL]) == {BTC: 6, ETH: 8}


def test_a_symbol_that_trades_rarely_is_looked_for_further_back(end: LogEnd, fill: Fill) -> None:
    other = next(symbol for symbol in (ETH, SOL, Symbol("ADAUSDT")) if partition_of(symbol, 2) == partition_of(BTC, 2))
    fill([(BTC, 1), *((other, number) for number in range(3_000))])
    assert end.last_sequences([BTC, other]) == {BTC: 1, other: 2_999}


def test_the_search_is_bounded_and_says_so(
    end: LogEnd, fill: Fill, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_end, "LONGEST_STEP", 1_000)
    other = next(symbol for symbol in (ETH, SOL, Symbol("ADAUSDT")) if partition_of(symbol, 2) == partition_of(BTC, 2))
    fill([(BTC, 1), *((other, number) for number in range(1_000))])
    assert end.last_sequences([BTC, other]) == {other: 999}
    assert "symbols not found at the end of the log" in caplog.text


def test_foreign_bytes_at_the_end_are_passed_over(end: LogEnd, fill: Fill, kafka: LocalKafka, topic: TopicName) -> None:
    fill([(BTC, 5)])
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, b"not avro", partition=partition_of(BTC, 2))
    producer.flush()
    producer.close()
    assert end.last_sequences([BTC]) == {BTC: 5}
