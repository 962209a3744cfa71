"""Values into a real Kafka; what an absent one means."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import KafkaUnavailableError, RecordError
from k2_core.kafka import KafkaAdmin
from k2_core.topics import dead_letter_topic, partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest.producer import Destination, TradeProducer
from k2_ingest.settings import IngestSettings
from support.ingest import read_topic
from support.kafka import TopicFactory
from support.waiting import wait_until

BTC, ETH = Symbol("BTCUSDT"), Symbol("ETHUSDT")
NOWHERE = IngestSettings(kafka_bootstrap_servers="127.0.0.1:9")


@pytest.fixture
def destination(kafka: LocalKafka, topic_factory: TopicFactory) -> Destination:
    topic = TopicName(topic_factory("trades", partitions=3))
    admin = KafkaAdmin(IngestSettings(kafka_bootstrap_servers=kafka.bootstrap_servers))
    admin.ensure_topics({dead_letter_topic(topic): 1})
    return Destination(topic, 3, "binance")


@pytest.fixture
def acknowledged() -> list[int]:
    return []


@pytest.fixture
def producer(kafka: LocalKafka, destination: Destination, acknowledged: list[int]) -> Iterator[TradeProducer]:
    settings = IngestSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
    producer = TradeProducer(settings, destination, 1_000, acknowledged.append)
    yield producer
    producer.close()


@pytest.fixture
def stranded() -> Iterator[TradeProducer]:
    producer = TradeProducer(NOWHERE, Destination(TopicName("t"), 1, "binance"), 1_000, lambda _: None)
    yield producer
    producer.close()


@pytest.mark.kafka
def test_values_arrive_in_order_in_their_symbols_partition(
    producer: TradeProducer, destination: Destination, kafka: LocalKafka, acknowledged: list[int]
) -> None:
    for number in range(50):
        producer.produce(BTC, [b"b%d" % number, b"c%d" % number], number)
        producer.produce(ETH, [b"e%d" % number], 1_000 + number)
    assert producer.flush(30) == 0
    messages = read_topic(kafka.bootstrap_servers, destination.topic)
    for symbol, count in ((BTC, 100), (ETH, 50)):
        mine = [message for message in messages if message.key() == symbol.encode()]
        assert {message.partition() for message in mine} == {partition_of(symbol, 3)}
        account = producer.accounts[symbol]
        assert (account.produced, account.acknowledged, account.outstanding, len(mine)) == (count, count, 0, count)
    bitcoin = [message.value() for message in messages if message.key() == b"BTCUSDT"]
    assert bitcoin == [b"%b%d" % (letter, number) for number in range(50) for letter in (b"b", b"c")]
    assert sorted(acknowledged) == [*range(50), *range(1_000, 1_050)]


@pytest.mark.kafka
def test_a_full_queue_waits_and_loses_nothing(
    producer: TradeProducer, destination: Destination, kafka: LocalKafka
) -> None:
    values = [b"%d" % number for number in range(25_000)]
    producer.produce(BTC, values, 1)
    for value in values[:3_000]:
        producer.dead_letter(value, RecordError("why", "x"), 1)
    assert producer.flush(30) == 0
    assert [message.value() for message in read_topic(kafka.bootstrap_servers, destination.topic)] == values
    letters = read_topic(kafka.bootstrap_servers, dead_letter_topic(destination.topic))
    assert len(letters) == producer.dead_letters.acknowledged == 3_000


@pytest.mark.kafka
def test_a_dead_letter_says_what_why_whence_and_when(
    producer: TradeProducer, destination: Destination, kafka: LocalKafka
) -> None:
    producer.dead_letter(b"\xffbad", RecordError("malformed_json", "found x, expected y"), 1_700_000_000_123_000_000)
    assert producer.flush(30) == 0
    [letter] = read_topic(kafka.bootstrap_servers, dead_letter_topic(destination.topic))
    assert letter.value() == b"\xffbad"
    assert letter.timestamp()[1] == 1_700_000_000_123
    assert dict(letter.headers() or []) == {
        "k2.reason": b"malformed_json",
        "k2.detail": b"found x, expected y",
        "k2.source": b"binance",
    }


@pytest.mark.kafka
def test_a_record_that_can_never_be_produced_is_an_error(producer: TradeProducer) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"found .*too large"):
        producer.produce(BTC, [b"x" * 2_000_000], 1)
    with pytest.raises(KafkaUnavailableError, match=r"found .*too large"):
        producer.dead_letter(b"x" * 2_000_000, RecordError("why", "x"), 1)


@pytest.mark.kafka
def test_a_record_that_the_broker_refuses_stops_the_process(
    kafka: LocalKafka, topic_factory: TopicFactory, acknowledged: list[int]
) -> None:
    topic = TopicName(topic_factory("small", config={"max.message.bytes": 100}))
    settings = IngestSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
    producer = TradeProducer(settings, Destination(topic, 1, "binance"), 1_000, acknowledged.append)
    producer.produce(BTC, [bytes(range(256)) * 40], 1)
    assert producer.flush(30) == 1
    with pytest.raises(KafkaUnavailableError, match="expected every record to be acknowledged"):
        producer.poll()
    assert (producer.accounts[BTC].failed, acknowledged) == (1, [])
    producer.close()


def test_a_dead_letter_that_is_lost_stops_the_process(stranded: TradeProducer) -> None:
    stranded.dead_letter(b"x", RecordError("why", "x"), 1)
    stranded._producer.purge()
    assert stranded.flush(1) == 1
    with pytest.raises(KafkaUnavailableError):
        stranded.poll()


def test_no_broker_is_told_once_and_records_are_kept(stranded: TradeProducer, caplog: pytest.LogCaptureFixture) -> None:
    stranded.produce(BTC, [b"x"] * 600, 1)
    with caplog.at_level(logging.ERROR):

        def gone() -> bool:
            stranded.poll()
            return stranded.broker_gone

        wait_until(gone, "an absent broker")
        assert stranded.flush(0.3) == 600
    assert [record.message for record in caplog.records].count(
        "no kafka broker answers: keeping records and retrying"
    ) == 1
    assert not stranded.full
    assert not stranded.drained
    stranded.produce(BTC, [b"x"] * 400, 1)
    assert stranded.full


def test_a_fatal_fault_of_the_client_is_raised(stranded: TradeProducer) -> None:
    stranded._on_error(KafkaError(KafkaError._FATAL, "sequence desynchronised", fatal=True))
    with pytest.raises(KafkaUnavailableError, match="sequence desynchronised"):
        stranded.poll()


def test_another_fault_of_the_client_is_no_outage(stranded: TradeProducer, tmp_path: Path) -> None:
    stranded._on_error(KafkaError(KafkaError._AUTHENTICATION))
    assert not stranded.broker_gone
