from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from k2_core.kafka import KafkaAdmin
from k2_core.types import Offset, Partition, TopicName
from k2_query.log_watch import LogWatch, Sighting
from k2_query.settings import QuerySettings
from support.query import BASE, World, make_records
from support.waiting import wait_until


@contextmanager
def watching(admin: KafkaAdmin, world_topic: str) -> Iterator[LogWatch]:
    watch = LogWatch(admin, [world_topic])  # type: ignore[list-item]
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def asked(watch: LogWatch) -> Sighting:
    """A sighting younger than this call."""
    found = wait_until(lambda: watch.ask(1), "an answer")
    assert isinstance(found, Sighting)
    return found


@pytest.mark.kafka
def test_an_answer_is_never_older_than_its_question(world: World) -> None:
    topic_id = world.create_topic()
    with watching(world.admin, world.topic) as watch:
        wait_until(lambda: world.topic in asked(watch).bounds.topics, "the topic")
        assert watch.ask(0) is None  # nobody answers at once
        wait_until(lambda: not watch.is_late, "the watch to look by itself")
        for number in range(20):
            [placed] = world.produce(make_records("BTCUSDT", number, 1, BASE))
            started = time.monotonic()
            sighting = asked(watch)
            assert sighting.asked_at >= started
            assert sighting.bounds.topics[world.topic].ends[placed.partition] == number + 1
        assert sighting.bounds.topics[world.topic].id == topic_id
        assert set(sighting.bounds.topics[world.topic].starts) == {Partition(at) for at in range(world.partitions)}
        assert sighting.bounds.cluster_id == world.admin.cluster_id()
        assert watch.problem is None


@pytest.mark.kafka
def test_questions_at_once_share_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.create_topic()
    requests: list[TopicName] = []
    original = world.admin.stable_ends

    def counting(topic: TopicName, partitions: Iterable[Partition]) -> dict[Partition, Offset]:
        requests.append(topic)
        return original(topic, partitions)

    monkeypatch.setattr(world.admin, "stable_ends", counting)
    with watching(world.admin, world.topic) as watch:
        asked(watch)
        requests.clear()
        together = threading.Barrier(20)

        def ask() -> None:
            together.wait()
            asked(watch)

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 <= len(requests) < 20


@pytest.mark.kafka
def test_a_topic_may_come_later(world: World) -> None:
    with watching(world.admin, world.topic) as watch:
        assert asked(watch).bounds.topics == {}
        world.create_topic()
        wait_until(lambda: world.topic in asked(watch).bounds.topics, "the topic")
        assert watch.ask(0) is None  # nobody answers at once
        wait_until(lambda: not watch.is_late, "the watch to look by itself")


def test_a_broker_that_is_away_costs_no_more_than_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_core.kafka.ADMIN_TIMEOUT_S", 0.2)
    admin = KafkaAdmin(QuerySettings(kafka_bootstrap_servers="127.0.0.1:1"))
    with watching(admin, "none") as watch:
        started = time.monotonic()
        assert not watch.is_late
        assert watch.ask(0.05) is None
        assert watch.is_late
        assert time.monotonic() - started < 5
        wait_until(lambda: watch.problem and "expected an answer from Kafka" in watch.problem, "the problem")
        assert watch.latest is None
