"""One look at a real Kafka: ends, positions, ages by the record's own time, reports, members, retention."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from k2_core import kafka
from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.controller.lag import total
from k2_core.controller.look import Looker
from k2_core.errors import KafkaUnavailableError
from k2_core.sink_report import SinkReport
from k2_core.types import Offset, Partition, TopicId
from support.controlled import PATIENCE_S, World
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def looker(world: World) -> Iterator[Looker]:
    made = Looker(world.settings, world.pipeline)
    yield made
    made.close()


def report(sink: str = "sink-0/1") -> SinkReport:
    return SinkReport(sink, datetime.now(UTC))


def test_a_topic_that_nobody_has_touched(looker: Looker) -> None:
    found = looker.look()
    lag = total(found.partitions)
    assert (lag.unread, lag.uncommitted, lag.unread_age_s) == (0, 0, 0.0)
    assert (found.members, found.rebalancing, found.reports) == (0, False, {})


def test_positions_and_ages_of_what_is_behind(world: World, looker: Looker) -> None:
    now_ms = int(time.time() * 1000)
    world.produce(5, 0, now_ms - 60_000)
    world.produce(5, 0, now_ms - 10_000)
    world.produce(4, 1, now_ms - 30_000)
    told = report()
    world.read({0: 5, 1: 4, 2: 0}, told)
    world.commit({0: 2, 1: 4}, CommitSignal(datetime.now(UTC) - timedelta(seconds=50), None))
    world.commit({2: 0}, CommitSignal(datetime.now(UTC) + timedelta(seconds=50), None))  # by a clock that is ahead
    found = looker.look()
    since_s = time.time() - now_ms / 1000  # what passed meanwhile, on a crowded machine seconds
    zero, one, two = found.partitions
    assert (zero.unread, zero.uncommitted) == (5, 8)
    assert (one.unread, one.uncommitted, two.unread) == (0, 0, 0)
    assert 10 <= (zero.unread_age_s or 0) <= 10 + since_s
    assert 60 <= (zero.uncommitted_age_s or 0) <= 60 + since_s
    assert (one.unread_age_s, one.uncommitted_age_s) == (0.0, 0.0)
    assert all(50 <= (one.committed_age_s or 0) <= 50 + since_s for one in found.partitions[:2])
    assert two.committed_age_s == 0.0
    assert found.reports == {"sink-0/1": told}


def test_the_tables_own_positions_count_where_they_are_given(world: World, looker: Looker) -> None:
    world.produce(9)
    world.read(dict.fromkeys(range(3), 9), report())
    world.commit(dict.fromkeys(range(3), 9), CommitSignal(datetime.now(UTC), None))
    [(topic_id, _)] = world.admin.describe_topics([world.topic]).values()
    stands = {Partition(0): Offset(4)}
    table = total(looker.look({(world.topic, topic_id): stands}).partitions)
    assert (table.uncommitted, table.unread) == (5, 0)
    world.read({0: 2, 1: 0, 2: 0}, report())
    table = total(looker.look({(world.topic, topic_id): stands}).partitions)
    assert (table.uncommitted, table.unread) == (5, 5)  # a sink that ended had not told of its last reads
    world.read(dict.fromkeys(range(3), 9), report())
    made_anew = total(looker.look({(world.topic, TopicId("another")): stands}).partitions)
    assert (made_anew.uncommitted, made_anew.uncommitted_age_s, made_anew.unread) == (None, None, 0)
    assert total(looker.look({}).partitions).uncommitted is None
    assert total(looker.look().partitions).uncommitted == 0


def test_a_position_that_nobody_told_is_not_known(world: World, looker: Looker) -> None:
    world.produce(3)
    lag = total(looker.look().partitions)
    assert (lag.unread, lag.uncommitted, lag.unread_age_s, lag.committed_age_s) == (None, None, None, None)


def test_who_is_in_the_group(world: World, looker: Looker) -> None:
    world.produce(1)
    member = world.join()
    world.position(member, {0: 1}, report())
    found = looker.look()
    assert (found.members, found.rebalancing) == (1, False)
    assert total(found.partitions).unread == 0
    member.close()
    world.members.clear()
    wait_until(lambda: looker.look().members == 0, "an empty group")


def test_how_long_the_log_keeps_a_record(world: World) -> None:
    admin = AdminClient({"bootstrap.servers": world.settings.kafka_bootstrap_servers})
    entry = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, world.topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)
    wait_until(lambda: retention_s(world) == 7200.0, "the broker to hear of it")
    entry.value = "-1"
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)
    wait_until(lambda: retention_s(world) is None, "the broker to hear of it")


def retention_s(world: World) -> float | None:
    """What one who looks for the first time finds."""
    with closing(Looker(world.settings, world.pipeline)) as looker:
        return looker.look().retention_s


def test_a_kafka_that_is_away_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "ADMIN_TIMEOUT_S", 0.5)
    looker = Looker(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1"), world.pipeline)
    with pytest.raises(KafkaUnavailableError):
        looker.look()
    looker.close()
