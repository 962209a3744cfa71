"""What an answer says of a level, in words and over HTTP beside a real control topic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer

from k2_core.control import CONTROL_TOPIC, Command, command_key
from k2_core.control_topic import ControlWriter
from k2_core.state import CommitState, LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicName
from k2_query.degraded import level_warnings
from support.api import Api, serve, wait_healthy
from support.query import BASE, World, make_records
from support.waiting import wait_until

TOPIC = TopicName("market.crypto.trades.binance")


def entry(topic: TopicName, partition: int, start: int, end: int, records: int) -> LedgerEntry:
    ledger = (Offset(start), Offset(end), ("ETHUSDT",), 3, "level 3 defers low and normal", records, 0, 0)
    return LedgerEntry(topic, Partition(partition), *ledger)


OWING = CommitState("c", open_ledger=(entry(TOPIC, 0, 0, 10, 7), entry(TOPIC, 1, 5, 9, 2)))


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.NORMAL, []),
        (Level.SOFT, []),
        (Level.GRACEFUL, ["level 2: symbols of class low are not committed; 9 records in 2 ranges are owed"]),
        (Level.AGGRESSIVE, ["level 3: only critical symbols are committed; 9 records in 2 ranges are owed"]),
        (Level.CIRCUIT_BREAK, ["level 4: nothing is committed; 9 records in 2 ranges are owed"]),
    ],
)
def test_each_level_says_what_is_committed_and_what_is_owed(level: Level, expected: list[str]) -> None:
    assert [text.split(" to the table")[0] for text in level_warnings(level, OWING)] == expected


def test_nothing_is_owed_without_a_table() -> None:
    [text] = level_warnings(Level.AGGRESSIVE, None)
    assert "0 records in 0 ranges" in text


@pytest.mark.kafka
def test_answers_follow_the_control_topic_and_keep_the_level_through_garbage(world: World) -> None:
    world.create_topic()
    wanted = make_records("BTCUSDT", 1, 20, BASE)
    world.produce(wanted)
    world.commit()
    writer = ControlWriter(world.settings, world.pipeline.control_name)
    other = ControlWriter(world.settings, "market.other")
    with serve(world.settings, world.pipeline) as api:
        wait_healthy(api)
        assert meta(api)["warnings"] == []
        other.command(Command(Level.CIRCUIT_BREAK, "FirstCrossing", datetime.now(UTC)))
        say(writer, Level.AGGRESSIVE)
        wait_until(lambda: meta(api)["warnings"] or None, "a warning")
        [text] = meta(api)["warnings"]
        assert text.startswith("level 3: only critical symbols are committed; 0 records")
        assert meta(api)["complete"]
        assert api.ids() == [record["message_id"] for record in wanted]
        assert "k2_query_level 3.0" in api.client.get("/metrics").text
        producer = Producer({"bootstrap.servers": world.settings.kafka_bootstrap_servers})
        producer.produce(CONTROL_TOPIC, b"garbage", command_key(world.pipeline.control_name))
        assert producer.flush(20) == 0
        wait_until(lambda: control(api)["trouble"], "a word about it")
        assert "garbage" in control(api)["trouble"]
        assert control(api)["level"] == Level.AGGRESSIVE
        assert api.client.get("/health").status_code == 200
        assert "k2_control_trouble 1.0" in api.client.get("/metrics").text
        assert meta(api)["warnings"] == [text]
        say(writer, Level.NORMAL)
        wait_until(lambda: meta(api)["warnings"] == [] or None, "no warning")
        assert control(api) == {"level": 0, "trouble": None}


def say(writer: ControlWriter, level: Level) -> None:
    writer.command(Command(level, "FirstCrossing", datetime.now(UTC)))


def meta(api: Api) -> dict[str, Any]:
    return dict(api.get("/v1/trades", symbol="BTCUSDT")["meta"])


def control(api: Api) -> dict[str, Any]:
    return dict(api.client.get("/health").json()["control"])
