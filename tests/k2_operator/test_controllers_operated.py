"""The operator decides: on a real API server and a real Kafka, where the test writes what sinks say of themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.control import CONTROL_TOPIC, ControlView, Override
from k2_core.control_topic import ControlReader, ControlWriter
from k2_core.sink_report import SinkReport
from k2_core.spec import parse_pipeline
from k2_core.types import Level
from k2_operator.status import LAG_EVERY_S
from support.controlled import PARTITIONS, FakeSink, World
from support.operated import Operated

pytestmark = pytest.mark.kafka

SOURCE: Final = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": PARTITIONS}
SCALING: Final = {"assumedPerSecond": 100, "settleSeconds": 1}
ONE_STEP: Final = {"mode": "Auto", "dwellUpSeconds": 600}
"""For tests that hold a level to stay: a look may see half of a backlog, and the other half raises it later."""


@pytest.fixture
def begin(operated: Operated) -> Iterator[Callable[..., World]]:
    """Apply a pipeline beside an operator and wait until its topics are there."""
    made: list[World] = []

    def make(**spec: object) -> World:
        operated.start()
        whole: dict[str, Any] = {"ingestion": [SOURCE], "sink": {"commitIntervalSeconds": 1}, **spec}
        document = operated.apply(**whole)
        operated.wait(lambda: operated.partitions() == PARTITIONS, "topics")
        operated.wait(lambda: operated.replicas("crypto-sink"), "a sink's Deployment")
        settings = ServiceSettings(kafka_bootstrap_servers=operated.bootstrap_servers)
        made.append(World(settings, parse_pipeline(document), CONTROL_TOPIC))
        return made[-1]

    yield make
    for world in made:
        world.close()


def tell(world: World) -> None:
    """Say that nothing was read or committed yet."""
    now = datetime.now(UTC)
    positions = dict.fromkeys(range(PARTITIONS), 0)
    world.read(positions, SinkReport("sink-0/1", now, memory_ratio=0.1, commit_s=0.1))
    world.commit(positions, CommitSignal(now, None))


def said(world: World) -> ControlView:
    reader = ControlReader(world.settings, world.pipeline.control_name)
    view = reader.read_all()
    reader.close()
    return view


def status(operated: Operated) -> Mapping[str, Any]:
    return dict((operated.get("k2pipeline", "crypto") or {}).get("status", {}))


def decision(operated: Operated, half: str) -> Mapping[str, Any]:
    return dict(status(operated).get("decision", {}).get(half, {}))


def deciding(operated: Operated, world: World) -> None:
    """Wait until the controller has two looks with positions behind it."""
    operated.wait(lambda: operated.condition("DecisionReady").get("reason") == "Deciding", "a controller")
    operated.wait(lambda: said(world).memory is not None, "what it remembers")
    operated.wait(lambda: "unread_records" not in status(operated)["decision"]["missing"], "positions that it knows")


def events(operated: Operated) -> dict[str, str]:
    """The messages of a pipeline's Events by reason."""
    text = operated.kubectl("get", "events", "-o", 'jsonpath={range .items[*]}{.reason}{"\\t"}{.message}{"\\n"}{end}')
    return dict(line.split("\t", 1) for line in text.splitlines())


def template(operated: Operated) -> Mapping[str, Any]:
    return dict((operated.get("deployment", "crypto-sink") or {})["spec"]["template"])


def level_metric(operated: Operated, name: str = "level") -> float | None:
    labels = f'{{namespace="{operated.namespace}",pipeline="crypto"}}'
    return operated.metrics().get(f"k2_operator_pipeline_{name}{labels}")


class TestLevel:
    def test_a_backlog_is_a_level_and_stays_one_without_the_operator(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(degradation=ONE_STEP)
        tell(world)
        deciding(operated, world)
        assert status(operated)["level"] == 0
        world.produce(15_000)
        operated.wait(lambda: status(operated)["level"] >= Level.SOFT, "a level in the status")
        level = status(operated)["level"]
        command = said(world).command
        assert command is not None
        assert command.level == level
        assert decision(operated, "level")["applied"] == level_metric(operated) == level
        crossings = {"FirstCrossing", "Forecast"}
        [text] = operated.wait(lambda: [text for why, text in events(operated).items() if why in crossings], "an Event")
        assert f"level 0 to {level}" in text
        assert "unread_records" in text
        operated.kill()
        assert said(world).command == command
        operated.start()
        operated.wait(lambda: level_metric(operated) is not None, "a controller")
        assert status(operated)["level"] == level_metric(operated) == level
        assert said(world).command == command

    def test_it_is_only_recommended(self, operated: Operated, begin: Callable[..., World]) -> None:
        world = begin(degradation={"mode": "Recommend"})
        tell(world)
        deciding(operated, world)
        world.produce(15_000)
        operated.wait(lambda: decision(operated, "level")["recommended"] >= Level.SOFT, "a recommendation")
        assert (status(operated)["level"], decision(operated, "level")["applied"]) == (0, 0)
        assert "ModeRecommend" in decision(operated, "level")["heldBy"]
        command = said(world).command
        assert command is not None
        assert command.level is Level.NORMAL

    def test_a_persons_decision_is_shown(self, operated: Operated, begin: Callable[..., World]) -> None:
        world = begin(degradation={"mode": "Auto"})
        tell(world)
        deciding(operated, world)
        now = datetime.now(UTC)
        writer = ControlWriter(world.settings, world.pipeline.control_name)
        writer.override(Override(Level.AGGRESSIVE, "drill", "anna", now, now + timedelta(hours=1)))
        operated.wait(lambda: status(operated)["level"] == Level.AGGRESSIVE, "the override")
        assert status(operated)["decision"]["override"]["by"] == "anna"
        assert decision(operated, "level")["applied"] == 0
        operated.wait(lambda: "Override" in events(operated), "an Event")
        assert "anna: drill" in events(operated)["Override"]
        writer.override(Override(None, "over", "anna", now + timedelta(seconds=1), now))
        operated.wait(lambda: status(operated)["level"] == 0, "its end")
        assert "override" not in status(operated)["decision"]

    def test_off_takes_the_level_back_and_then_costs_nothing(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(degradation={"mode": "Auto"})
        tell(world)
        deciding(operated, world)
        world.produce(15_000)
        operated.wait(lambda: status(operated)["level"] >= Level.SOFT, "a level")
        operated.patch("k2pipeline", "crypto", {"spec": {"degradation": {"mode": "Off"}}})
        operated.wait(lambda: "level" not in status(operated), "the end of decisions")
        command = said(world).command
        assert command is not None
        assert command.level is Level.NORMAL
        assert operated.condition("DecisionReady")["reason"] == "Off"
        operated.wait(lambda: level_metric(operated) is None, "no figure")


class TestStopping:
    def reach_level_4(self, operated: Operated, world: World) -> None:
        world.produce(100)
        self.say(world, 0)
        deciding(operated, world)

        def at_level_4() -> bool:
            self.say(world, 0, failing=True)
            return bool(status(operated)["level"] == Level.CIRCUIT_BREAK)

        operated.wait(at_level_4, "level 4")

    def test_a_level_that_stands_still_is_left_and_what_was_put_off_is_waited_for(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(degradation={"mode": "Auto"})
        self.reach_level_4(operated, world)
        operated.kubectl("delete", "k2pipeline", "crypto", "--wait=false")
        operated.wait(lambda: decision(operated, "level").get("why") == "Stopping", "a lower level")
        command = said(world).command
        assert command is not None
        assert (command.level, command.reason) == (Level.SOFT, "Stopping")
        messages = ("get", "events", "-o", "jsonpath={.items[*].message}")
        operated.wait(lambda: "level 4 to 1 (Stopping)" in operated.kubectl(*messages), "an Event")
        self.say(world, 100, deferred=40)
        operated.wait(
            lambda: "40 records that levels put off" in operated.condition("SinkReady")["message"], "what is owed"
        )
        assert operated.replicas("crypto-sink") == 1
        operated.kill()
        operated.start()
        operated.wait(lambda: level_metric(operated) is not None, "a controller")
        assert operated.replicas("crypto-sink") == 1
        assert level_metric(operated) == Level.SOFT
        self.say(world, 100)
        operated.wait(lambda: operated.get("k2pipeline", "crypto") is None, "its end")

    def test_a_suspended_pipeline_goes_on_at_the_level_of_its_end(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(degradation={"mode": "Auto"})
        self.reach_level_4(operated, world)
        operated.patch("k2pipeline", "crypto", {"spec": {"suspend": True}})
        operated.wait(lambda: status(operated)["level"] == Level.SOFT, "a lower level")
        self.say(world, 100)
        operated.wait(lambda: operated.phase() == "Suspended", "a suspended pipeline")
        assert status(operated)["level"] == Level.SOFT
        operated.patch("k2pipeline", "crypto", {"spec": {"suspend": False}})
        operated.wait(lambda: level_metric(operated) is not None, "a controller")
        assert level_metric(operated) == Level.SOFT

    @staticmethod
    def say(world: World, position: int, **more: Any) -> None:
        """Say of a commit and then of a sink what one would say that stands there."""
        positions = {0: position, 1: 0, 2: 0}
        world.commit(positions, CommitSignal(datetime.now(UTC), None))
        world.read(positions, SinkReport("sink-0/1", datetime.now(UTC), memory_ratio=0.1, commit_s=0.1, **more))


class TestSteadyState:
    def test_a_controller_that_decides_the_same_writes_nothing(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(scaling={"mode": "Auto", **SCALING}, degradation={"mode": "Auto"})
        tell(world)
        FakeSink(world, 60)
        deciding(operated, world)
        last = (time.monotonic(), operated.writes())

        def quiet() -> bool:
            """Whether nothing has been written for longer than figures alone may wait."""
            nonlocal last
            if (writes := operated.writes()) != last[1]:
                last = (time.monotonic(), writes)
            return time.monotonic() - last[0] > 1.2 * LAG_EVERY_S

        operated.wait(quiet, "quiet", 60)
        assert operated.condition("DecisionReady")["reason"] == "Deciding"


class TestOff:
    def test_nothing_is_decided_said_or_shown(self, operated: Operated, begin: Callable[..., World]) -> None:
        world = begin()
        tell(world)
        operated.wait(lambda: operated.condition("DecisionReady").get("reason") == "Off", "a status")
        ControlWriter(world.settings, "another")  # makes the topic
        assert (said(world).command, said(world).memory) == (None, None)
        assert {"level", "decision"}.isdisjoint(status(operated))
        assert level_metric(operated) is None


class TestSinks:
    def test_more_of_them_stay_without_a_roll_out_and_outlive_the_operator(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(scaling={"mode": "Auto", **SCALING})
        tell(world)
        sink = FakeSink(world, 60)
        deciding(operated, world)
        before = template(operated)
        assert operated.replicas("crypto-sink") == 1
        for partition in range(PARTITIONS):
            world.produce(5_000, partition)
        operated.wait(lambda: operated.replicas("crypto-sink") == PARTITIONS, "more sinks")
        assert template(operated) == before
        operated.wait(lambda: decision(operated, "sinks").get("wanted") == PARTITIONS, "a status")
        assert level_metric(operated, "wanted_sinks") == PARTITIONS
        operated.wait(lambda: "DemandUp" in events(operated), "an Event")
        assert f"sinks 1 to {PARTITIONS}" in events(operated)["DemandUp"]

        operated.kubectl("scale", "deployment/crypto-sink", "--replicas=7")
        operated.wait(lambda: operated.replicas("crypto-sink") == PARTITIONS, "drift that is mended")

        operated.kill()
        operated.kubectl("scale", "deployment/crypto-sink", "--replicas=7")
        operated.start()
        operated.wait(lambda: operated.replicas("crypto-sink") == PARTITIONS, "what was decided before")

        ends = dict.fromkeys(range(PARTITIONS), 5_000)
        world.commit(ends, CommitSignal(datetime.now(UTC), None))
        operated.patch("k2pipeline", "crypto", {"spec": {"suspend": True}})
        operated.wait(lambda: operated.phase() == "Suspended", "a suspended pipeline")
        sink.close()
        assert operated.replicas("crypto-sink") == 0
        assert level_metric(operated, "wanted_sinks") is None
        operated.patch("k2pipeline", "crypto", {"spec": {"suspend": False}})
        operated.wait(lambda: operated.replicas("crypto-sink") == PARTITIONS, "as many as before")

    def test_they_are_only_recommended(self, operated: Operated, begin: Callable[..., World]) -> None:
        world = begin(scaling={"mode": "Recommend", **SCALING})
        tell(world)
        FakeSink(world, 60)
        deciding(operated, world)
        for partition in range(PARTITIONS):
            world.produce(5_000, partition)
        operated.wait(lambda: decision(operated, "sinks").get("recommended", 0) > 1, "a recommendation")
        assert decision(operated, "sinks")["wanted"] == 1
        assert operated.replicas("crypto-sink") == 1
        operated.patch("k2pipeline", "crypto", {"spec": {"sink": {"replicas": 2}}})
        operated.wait(lambda: operated.replicas("crypto-sink") == 2, "what the spec says")

    def test_a_kafka_that_is_away_holds_them(self, operated: Operated, begin: Callable[..., World]) -> None:
        world = begin(scaling={"mode": "Auto", **SCALING}, degradation={"mode": "Auto"})
        tell(world)
        FakeSink(world, 60)
        deciding(operated, world)
        for partition in range(PARTITIONS):
            world.produce(5_000, partition)
        operated.wait(lambda: operated.replicas("crypto-sink") == PARTITIONS, "more sinks")
        operated.wait(lambda: status(operated)["level"] >= Level.SOFT, "a level")
        operated.patch("k2pipeline", "crypto", {"spec": {"kafka": {"bootstrapServers": "127.0.0.1:1"}}})
        operated.wait(lambda: operated.condition("KafkaReady").get("status") == "False", "no Kafka")
        assert status(operated)["level"] >= Level.SOFT
        assert (operated.replicas("crypto-sink"), decision(operated, "sinks")["wanted"]) == (PARTITIONS, PARTITIONS)

    def test_bounds_that_change_count_at_once_and_nothing_is_forgotten(
        self, operated: Operated, begin: Callable[..., World]
    ) -> None:
        world = begin(scaling={"mode": "Auto", **SCALING}, degradation=ONE_STEP)
        tell(world)
        FakeSink(world, 60)
        deciding(operated, world)
        for partition in range(PARTITIONS):
            world.produce(5_000, partition)
        operated.wait(lambda: operated.replicas("crypto-sink") == PARTITIONS, "more sinks")
        level = operated.wait(lambda: status(operated)["level"], "a level")
        since = decision(operated, "level")["since"]
        operated.patch("k2pipeline", "crypto", {"spec": {"scaling": {"maxReplicas": 2}}})
        operated.wait(lambda: operated.replicas("crypto-sink") == 2, "what is allowed now")
        operated.wait(lambda: decision(operated, "sinks").get("why") == "Bounds", "a status")
        assert (decision(operated, "level")["since"], decision(operated, "level")["applied"]) == (since, level)
