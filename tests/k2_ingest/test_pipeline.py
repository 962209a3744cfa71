"""The hot loop, with a producer whose Kafka is away: what it hands over stays in the queue."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from k2_core.types import Symbol, TopicName
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.metrics import IngestMetrics
from k2_ingest.pipeline import GAP_LINES, Lane, Pipeline
from k2_ingest.producer import Destination, TradeProducer
from k2_ingest.sequence import SequenceTracker
from k2_ingest.settings import IngestSettings
from k2_ingest.venues.binance import Notice, Parser, TimeUnit

BTC = Symbol("BTCUSDT")
TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":%d,"p":"1.0","q":"2.0",'
    b'"T":1723161255342,"m":true}}'
)
RECEIVED_NS = 1_723_161_256_342_000_000


class Bench:
    """A pipeline and what can be seen of it."""

    def __init__(self) -> None:
        settings = IngestSettings(kafka_bootstrap_servers="127.0.0.1:9")
        self.producer = TradeProducer(settings, Destination(TopicName("t"), 1, "binance"), 1_000, lambda _: None)
        self.tracker = SequenceTracker(0)
        self.registry = CollectorRegistry()
        self.notices: list[Notice] = []
        lane = Lane(self.producer.account(BTC), self.tracker, TradeEncoder(Identity("binance", "spot", "crypto", BTC)))
        parser = Parser([BTC], TimeUnit.MILLISECOND)
        self.pipeline = Pipeline(parser, {BTC: lane}, self.producer, IngestMetrics(self.registry), self.notices.append)

    def handle(self, *messages: bytes) -> None:
        self.pipeline.handle(messages, RECEIVED_NS)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"k2_ingest_{name}", labels)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.producer.close()


def test_trades_are_accounted_for_and_handed_over(bench: Bench) -> None:
    bench.handle(*(TRADE % number for number in range(5)))
    account = bench.producer.accounts[BTC]
    assert (account.received, account.produced, account.outstanding, bench.producer.unacknowledged) == (5, 5, 5, 5)
    assert bench.value("messages_received_total") == 5
    assert bench.value("exchange_to_receive_seconds_sum") == pytest.approx(1.0)


def test_duplicates_are_handed_over_too(bench: Bench) -> None:
    bench.handle(TRADE % 0, TRADE % 0)
    assert (bench.producer.unacknowledged, bench.tracker.duplicates) == (2, 1)


def test_a_bad_message_costs_only_itself(bench: Bench) -> None:
    bench.handle(TRADE % 0, b"{", TRADE % 1)
    assert bench.producer.accounts[BTC].produced == 2
    assert bench.producer.dead_letters.produced == 1
    assert bench.value("dead_letters_total", reason="malformed_json") == 1


def test_other_messages_are_counted_or_passed_on(bench: Bench) -> None:
    ticker = b'{"stream":"btcusdt@bookTicker","data":{}}'
    bench.handle(ticker, b'{"result":null,"id":1}', b'{"e":"serverShutdown","E":1}')
    assert bench.value("messages_ignored_total", kind="bookTicker") == 1
    assert bench.notices == [Notice.ACKNOWLEDGED, Notice.SERVER_SHUTDOWN]
    assert bench.producer.unacknowledged == 0


def test_gaps_are_told_as_ranges_and_not_without_end(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bench.handle(*(TRADE % number for number in range(3, 3 + 2 * GAP_LINES + 10, 2)))
    told = [vars(record) for record in caplog.records]
    assert (told[0]["symbol"], told[0]["first_id"], told[0]["last_id"], told[0]["count"]) == (BTC, 0, 2, 3)
    assert len(told) == GAP_LINES
    assert bench.tracker.gaps_opened > GAP_LINES
