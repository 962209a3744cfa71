"""One reader of the whole control topic on a real Kafka: each pipeline sees all of its own."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core import control_log as module
from k2_core.config import ServiceSettings
from k2_core.control import Command, Override, command_key
from k2_core.control_log import ControlLog
from k2_core.control_topic import ControlReader, ControlWriter, control_producer
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import KafkaAdmin
from k2_core.types import Level, TopicName
from support.kafka import TopicFactory
from support.waiting import wait_until

pytestmark = pytest.mark.kafka

NAMES = tuple(f"market.p{number}" for number in range(20))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(kafka: LocalKafka) -> ServiceSettings:
    return ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def topic(topic_factory: TopicFactory) -> TopicName:
    return TopicName(topic_factory("control", config={"cleanup.policy": "compact"}))


@pytest.fixture
def write(settings: ServiceSettings, topic: TopicName) -> Callable[[str], ControlWriter]:
    producer, admin = control_producer(settings), KafkaAdmin(settings)
    return lambda name: ControlWriter(settings, name, topic, producer, admin)


@pytest.fixture
def open_log(settings: ServiceSettings, topic: TopicName) -> Iterator[Callable[..., ControlLog]]:
    made: list[ControlLog] = []

    def make(name: TopicName = topic, only: str | None = None) -> ControlLog:
        made.append(ControlLog(settings, name, only))
        return made[-1]

    yield make
    for one in made:
        one.close()


def level(number: int) -> Level:
    return Level(number % len(Level))


def say(writer: ControlWriter, wanted: Level) -> None:
    writer.command(Command(wanted, "Steady", NOW))


def levels(log: ControlLog) -> dict[str, Level]:
    return {name: log.view(name).level(NOW) for name in NAMES}


def test_each_pipeline_sees_its_own(write: Callable[[str], ControlWriter], open_log: Callable[..., ControlLog]) -> None:
    for number, name in enumerate(NAMES):
        say(write(name), level(number))
        write(name).memory({"number": number})
    log = open_log()
    log.catch_up(20)
    assert levels(log) == {name: level(number) for number, name in enumerate(NAMES)}
    assert {name: (log.view(name).memory or {})["number"] for name in NAMES} == {
        name: number for number, name in enumerate(NAMES)
    }
    assert log.view("market.unheard").command is None


def test_one_pipelines_reader_keeps_nothing_of_others(
    write: Callable[[str], ControlWriter], open_log: Callable[..., ControlLog]
) -> None:
    for name in NAMES:
        say(write(name), Level.SOFT)
    log = open_log(only=NAMES[3])
    log.catch_up(20)
    assert set(log._views) == {NAMES[3]}
    assert log.view(NAMES[3]).level(NOW) is Level.SOFT


def test_who_comes_late_sees_what_was_written_a_moment_ago(
    settings: ServiceSettings,
    topic: TopicName,
    write: Callable[[str], ControlWriter],
    open_log: Callable[..., ControlLog],
) -> None:
    log, writer = open_log(), write(NAMES[0])
    log.catch_up(20)
    assert log.at_end or log.view(NAMES[0]).command is None
    for number in range(30):
        say(writer, level(number))
        assert ControlReader(settings, NAMES[0], topic, log).read_all().level(NOW) is level(number)


def test_threads_that_share_it_all_see_everything(
    settings: ServiceSettings,
    topic: TopicName,
    write: Callable[[str], ControlWriter],
    open_log: Callable[..., ControlLog],
) -> None:
    log = open_log()
    for number, name in enumerate(NAMES):
        say(write(name), level(number))
    readers = [ControlReader(settings, name, topic, log) for name in NAMES]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda reader: reader.read_all().level(NOW), readers))
    assert found == [level(number) for number in range(len(NAMES))]
    for reader in readers:
        reader.close()
    say(write(NAMES[0]), Level.CIRCUIT_BREAK)
    log.catch_up(20)  # one that leaves takes it from nobody
    assert log.view(NAMES[0]).level(NOW) is Level.CIRCUIT_BREAK


def test_a_look_never_waits_for_another_threads(open_log: Callable[..., ControlLog], topic: TopicName) -> None:
    log = open_log()
    log.catch_up(20)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with log._reading:
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    log.poll(0)  # returns although it is never let in
    go_on.set()
    thread.join()


def test_garbage_is_told_to_the_pipeline_that_it_names(
    settings: ServiceSettings, kafka: LocalKafka, topic_factory: TopicFactory, open_log: Callable[..., ControlLog]
) -> None:
    topic = TopicName(topic_factory("control"))  # a compacted one would refuse what has no key
    writer = ControlWriter(settings, NAMES[0], topic)
    say(writer, Level.SOFT)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, b"garbage", command_key(NAMES[0]))
    producer.produce(topic, b"no key")
    assert producer.flush(20) == 0
    log = open_log(topic)
    log.catch_up(20)
    assert "garbage" in (log.trouble(NAMES[0]) or "")
    assert log.trouble(NAMES[1]) is None
    assert log.view(NAMES[0]).level(NOW) is Level.SOFT
    say(writer, Level.NORMAL)
    log.catch_up(20)
    assert log.trouble(NAMES[0]) is None


def test_a_topic_that_is_read_again_says_the_same(
    write: Callable[[str], ControlWriter], open_log: Callable[..., ControlLog]
) -> None:
    overrides = [
        Override(Level(number), "drill", "anna", NOW + timedelta(seconds=number), NOW + timedelta(hours=1))
        for number in (2, 1, 3)
    ]
    for one in overrides:
        write(NAMES[0]).override(one)
    log = open_log()
    log.catch_up(20)
    before = log.view(NAMES[0]).overrides
    assert before == tuple(sorted(overrides, key=lambda one: one.made_at))
    log._assigned, log._position = False, 0  # as after a fault
    log.catch_up(20)
    assert log.view(NAMES[0]).overrides == before


def test_a_topic_that_is_missing_is_said_and_found_when_it_is_made(
    settings: ServiceSettings,
    topic_factory: TopicFactory,
    open_log: Callable[..., ControlLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    name = TopicName(f"later-{uuid.uuid4().hex[:12]}")
    log = open_log(name)
    with pytest.raises(KafkaUnavailableError, match="expected its records"):
        log.catch_up(0.3)
    assert log.trouble(NAMES[0]) is not None
    say(ControlWriter(settings, NAMES[0], name), Level.SOFT)
    topic_factory._made.append(name)
    log.catch_up(20)
    assert log.view(NAMES[0]).level(NOW) is Level.SOFT
    assert log.trouble(NAMES[0]) is None


def test_garbage_is_told_of_until_something_good_of_its_kind_follows(
    kafka: LocalKafka, topic: TopicName, write: Callable[[str], ControlWriter], open_log: Callable[..., ControlLog]
) -> None:
    """What the controller remembers comes every few seconds, and says nothing about the command that cannot be read."""
    log, writer = open_log(), write(NAMES[0])
    say(writer, Level.AGGRESSIVE)
    log.catch_up(20)
    assert not log.lost(NAMES[0])
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, b"garbage", command_key(NAMES[0]))
    assert producer.flush(20) == 0
    writer.memory({"policy": {}})
    log.catch_up(20)
    assert "garbage" in (log.trouble(NAMES[0]) or "")
    assert log.lost(NAMES[0])  # compaction keeps the garbage
    assert log.view(NAMES[0]).level(NOW) is Level.AGGRESSIVE
    say(writer, Level.AGGRESSIVE)
    log.catch_up(20)
    assert (log.trouble(NAMES[0]), log.lost(NAMES[0])) == (None, False)


def test_a_command_that_was_taken_out_is_lost_and_the_level_stays(
    kafka: LocalKafka, topic: TopicName, write: Callable[[str], ControlWriter], open_log: Callable[..., ControlLog]
) -> None:
    log = open_log()
    say(write(NAMES[0]), Level.AGGRESSIVE)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, None, command_key(NAMES[0]))
    assert producer.flush(20) == 0
    log.catch_up(20)
    assert log.lost(NAMES[0])
    assert not log.lost(NAMES[1])  # nobody ever told it anything
    assert log.view(NAMES[0]).level(NOW) is Level.AGGRESSIVE


def test_a_topic_that_is_deleted_while_it_is_read_is_said_and_read_again_when_it_is_made(
    settings: ServiceSettings,
    topic: TopicName,
    write: Callable[[str], ControlWriter],
    open_log: Callable[..., ControlLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHECK_AFTER_S", 0.1)
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    log = open_log()
    for number in range(9):
        say(write(NAMES[0]), level(number))
    say(write(NAMES[0]), Level.AGGRESSIVE)
    log.catch_up(20)
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    client.delete_topics([topic])[topic].result(20)
    wait_until(lambda: read(log).missing, "a look at a topic that is gone")
    assert "expected its records" in (log.trouble(NAMES[0]) or "")
    assert log.view(NAMES[0]).level(NOW) is Level.AGGRESSIVE
    say(write(NAMES[1]), Level.SOFT)  # which makes it again
    wait_until(lambda: read(log).view(NAMES[1]).level(NOW) is Level.SOFT, "what the new topic says")
    wait_until(lambda: read(log).lost(NAMES[0]), "the new topic's end")
    assert (log.trouble(NAMES[0]), log.missing) == (None, False)
    assert log.view(NAMES[0]).level(NOW) is Level.AGGRESSIVE


@pytest.mark.parametrize("check_after_s", [0.1, 600.0], ids=["looked for", "told by the client"])
def test_a_topic_that_was_made_anew_between_two_looks_is_read_from_its_beginning(
    settings: ServiceSettings,
    topic: TopicName,
    write: Callable[[str], ControlWriter],
    open_log: Callable[..., ControlLog],
    monkeypatch: pytest.MonkeyPatch,
    check_after_s: float,
) -> None:
    monkeypatch.setattr(module, "CHECK_AFTER_S", 600.0)
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    log = open_log()
    for number in range(9):
        say(write(NAMES[0]), level(number))
    log.catch_up(20)
    client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    client.delete_topics([topic])[topic].result(20)
    wait_until(lambda: topic not in client.list_topics(timeout=20).topics, "the topic's end")
    say(write(NAMES[1]), Level.SOFT)
    monkeypatch.setattr(module, "CHECK_AFTER_S", check_after_s)
    log._check_at_s = time.monotonic() + (0.0 if check_after_s < 1 else check_after_s)
    wait_until(lambda: read(log).view(NAMES[1]).level(NOW) is Level.SOFT, "what the new topic says")
    wait_until(lambda: read(log).lost(NAMES[0]), "the new topic's end")


def read(log: ControlLog) -> ControlLog:
    log.poll(0.1)
    return log


def test_a_kafka_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "METADATA_TIMEOUT_S", 0.1)
    log = ControlLog(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1"))
    with pytest.raises(KafkaUnavailableError, match="control topic"):
        log.catch_up(0.5)
    log.close()
