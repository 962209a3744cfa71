"""The control topic on a real Kafka: followers act within a second, and keep their level whatever comes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from k2_cli.stack.kafka import LocalKafka
from k2_core import control_topic as module
from k2_core.config import ServiceSettings
from k2_core.control import CONTROL_TOPIC, Command, Override, command_key
from k2_core.control_topic import ControlFollower, ControlReader, ControlWriter
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import KafkaAdmin
from k2_core.types import Level, TopicName
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka

NAME = "market.crypto"
PATIENCE_S = 20.0


def command(level: Level) -> Command:
    return Command(level, "FirstCrossing", datetime.now(UTC))


def within(seconds: float, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture
def settings(kafka: LocalKafka) -> ServiceSettings:
    return ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def topic(topic_factory: TopicFactory) -> TopicName:
    return TopicName(topic_factory("control", config={"cleanup.policy": "compact"}))


@pytest.fixture
def writer(settings: ServiceSettings, topic: TopicName) -> ControlWriter:
    return ControlWriter(settings, NAME, topic)


@pytest.fixture
def follow(settings: ServiceSettings) -> Iterator[Callable[[TopicName], ControlFollower]]:
    """Start followers, which end with the test."""
    started: list[ControlFollower] = []

    def start(topic: TopicName) -> ControlFollower:
        started.append(ControlFollower(settings, NAME, topic))
        started[-1].__enter__()
        return started[-1]

    yield start
    for one in started:
        one.__exit__(None, None, None)


class TestFollower:
    def test_it_knows_a_command_and_the_next(
        self, writer: ControlWriter, topic: TopicName, follow: Callable[[TopicName], ControlFollower]
    ) -> None:
        writer.command(command(Level.SOFT))
        follower = follow(topic)
        within(PATIENCE_S, lambda: follower.level() is Level.SOFT)
        for level in (Level.AGGRESSIVE, Level.NORMAL):
            writer.command(command(level))
            within(PATIENCE_S, lambda level=level: follower.level() is level)  # type: ignore[misc]
        assert follower.trouble is None
        found = follower.command()
        assert found is not None
        assert found.reason == "FirstCrossing"

    def test_it_keeps_its_level_through_garbage_and_says_so(
        self,
        writer: ControlWriter,
        kafka: LocalKafka,
        topic: TopicName,
        follow: Callable[[TopicName], ControlFollower],
    ) -> None:
        follower = follow(topic)
        writer.command(command(Level.GRACEFUL))
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        producer.produce(topic, b"garbage", command_key(NAME))
        assert producer.flush(PATIENCE_S) == 0
        within(PATIENCE_S, lambda: "garbage" in (follower.trouble or ""))
        assert follower.level() is Level.GRACEFUL
        writer.command(command(Level.SOFT))
        within(PATIENCE_S, lambda: follower.level() is Level.SOFT)
        assert follower.trouble is None

    def test_a_topic_that_is_missing_changes_nothing_and_is_found_when_it_is_made(
        self, settings: ServiceSettings, topic_factory: TopicFactory, follow: Callable[[TopicName], ControlFollower]
    ) -> None:
        name = TopicName(f"later-{uuid.uuid4().hex[:12]}")
        follower = follow(name)
        within(PATIENCE_S, lambda: "expected its records" in (follower.trouble or ""))
        assert follower.level() is Level.NORMAL
        ControlWriter(settings, NAME, name).command(command(Level.SOFT))
        topic_factory._made.append(name)
        within(PATIENCE_S, lambda: follower.level() is Level.SOFT)
        within(PATIENCE_S, lambda: follower.trouble is None)

    def test_an_override_reaches_it_and_others_of_the_topic_do_not(
        self,
        settings: ServiceSettings,
        writer: ControlWriter,
        topic: TopicName,
        follow: Callable[[TopicName], ControlFollower],
    ) -> None:
        now = datetime.now(UTC)
        follower = follow(topic)
        ControlWriter(settings, "market.other", topic).command(command(Level.CIRCUIT_BREAK))
        writer.override(Override(Level.SOFT, "drill", "anna", now, now + timedelta(hours=1)))
        within(PATIENCE_S, lambda: follower.level() is Level.SOFT)


class TestReader:
    def test_all_that_was_said(self, settings: ServiceSettings, writer: ControlWriter, topic: TopicName) -> None:
        writer.command(command(Level.SOFT))
        writer.memory({"format": 1, "some": [1, None]})
        reader = ControlReader(settings, NAME, topic)
        view = reader.read_all()
        reader.close()
        assert view.level(datetime.now(UTC)) is Level.SOFT
        assert view.memory == {"format": 1, "some": [1, None]}

    def test_an_empty_topic_is_read_at_once(self, settings: ServiceSettings, topic: TopicName) -> None:
        reader = ControlReader(settings, NAME, topic)
        assert reader.read_all().command is None
        reader.close()

    def test_a_kafka_that_is_away_is_said(self) -> None:
        reader = ControlReader(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1"), NAME)
        with pytest.raises(KafkaUnavailableError, match="control topic"):
            reader.read_all(0.5)
        reader.close()


class TestWriter:
    def test_it_makes_the_topic_compacted(self, settings: ServiceSettings, topic_factory: TopicFactory) -> None:
        name = TopicName(f"made-{uuid.uuid4().hex[:12]}")
        ControlWriter(settings, NAME, name)
        topic_factory._made.append(name)
        assert KafkaAdmin(settings).describe_topics([name])[name][1] == 1

    def test_what_is_not_acknowledged_is_said(self, writer: ControlWriter, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "FLUSH_TIMEOUT_S", 0.0)
        with pytest.raises(KafkaUnavailableError, match="expected an acknowledgement"):
            writer.command(command(Level.SOFT))


def test_the_name_is_the_contract() -> None:
    assert CONTROL_TOPIC == "k2.control"
