"""A pipeline of one test alone on a real Kafka, and what its sinks would write of themselves there."""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.control import ControlView
from k2_core.control_topic import ControlReader
from k2_core.controller.sight import Executor
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import KafkaAdmin
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig
from k2_core.sink_report import SinkReport
from k2_core.spec import Pipeline, parse_pipeline
from k2_core.types import Offset, Partition, TopicName
from support.kafka import TopicFactory
from support.waiting import wait_until

PARTITIONS: Final = 3
PATIENCE_S: Final = 20.0
_STEP_S: Final = 0.5


@dataclass
class World:
    """One pipeline's topic and groups.

    Args:
        settings: Where Kafka is.
        pipeline: Of this test alone.
        control: Its control topic.
    """

    settings: ServiceSettings
    pipeline: Pipeline
    control: TopicName
    members: list[Consumer] = field(default_factory=list)
    sinks: list[FakeSink] = field(default_factory=list)

    @classmethod
    def new(cls, kafka: LocalKafka, topics: TopicFactory, **spec: object) -> World:
        """A pipeline with a prefix of its own; what is its own is deleted with the factory's topics."""
        source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": PARTITIONS}
        document = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": "crypto"},
            "spec": {"namespace": f"t{uuid.uuid4().hex[:12]}", "ingestion": [source], **spec},
        }
        control = TopicName(topics("control", config={"cleanup.policy": "compact"}))
        settings = ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
        made = cls(settings, parse_pipeline(document), control)
        topics._made.append(made.topic)
        return made

    def __post_init__(self) -> None:
        (self.topic,) = self.pipeline.trades_topics()
        self.admin = KafkaAdmin(self.settings)
        self.admin.ensure_topics({self.topic: PARTITIONS})
        wait_until(self._has_leaders, "leaders of a new topic")
        self._producer = Producer({"bootstrap.servers": self.settings.kafka_bootstrap_servers})

    def _has_leaders(self) -> bool:
        try:
            return len(self.admin.stable_ends(self.topic, map(Partition, range(PARTITIONS)))) == PARTITIONS
        except KafkaUnavailableError:
            return False

    def produce(self, count: int, partition: int = 0, timestamp_ms: int = 0) -> None:
        """Append records; 0 means with the time of now."""
        for _ in range(count):
            self._producer.produce(self.topic, b"x", partition=partition, timestamp=timestamp_ms)
        assert self._producer.flush(PATIENCE_S) == 0

    def read(self, positions: dict[int, int], report: SinkReport) -> None:
        """Write what a sink writes of itself."""
        self._write(self.pipeline.sink_group, positions, report.dump())

    def commit(self, positions: dict[int, int], signal: CommitSignal) -> None:
        """Write what a sink writes of a commit."""
        self._write(self.pipeline.committed_group, positions, signal.dump())

    def _write(self, group: str, positions: dict[int, int], text: str) -> None:
        signals = {(self.topic, Partition(at)): (Offset(offset), text) for at, offset in positions.items()}
        self.admin.write_group_signals(group, signals).result(PATIENCE_S)

    def join(self) -> Consumer:
        """Become a member of the sinks' group."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_bootstrap_servers,
                "group.id": self.pipeline.sink_group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 20_000,
            }
        )
        consumer.subscribe([self.topic])
        while not consumer.assignment():
            consumer.poll(0.05)
        self.members.append(consumer)
        return consumer

    def position(self, consumer: Consumer, positions: dict[int, int], report: SinkReport) -> None:
        """Write positions as a member does, who alone may while there are members."""
        text = report.dump()
        at = [TopicPartition(self.topic, number, offset, text) for number, offset in positions.items()]
        consumer.commit(offsets=at, asynchronous=False)

    def close(self) -> None:
        """End all sinks and members."""
        for sink in self.sinks:
            sink.close()
        for member in self.members:
            member.close()


class FakeSink:
    """A member of the sinks' group that reads at a rate and says so each half second, until it is closed.

    Args:
        world: Whose records.
        per_s: How many it reads.
    """

    def __init__(self, world: World, per_s: int) -> None:
        self._world = world
        self._per_step = max(1, round(per_s * _STEP_S / PARTITIONS))
        self._consumer = world.join()
        self._positions = dict.fromkeys(range(PARTITIONS), 0)
        self._stop = threading.Event()
        self._say()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        world.sinks.append(self)

    def _run(self) -> None:
        while not self._stop.wait(_STEP_S):
            # A busy machine may cost it its place in the group, or a broker its patience: the next step tries again.
            with contextlib.suppress(KafkaException, KafkaUnavailableError):
                self._consumer.poll(0)
                self._step()

    def _step(self) -> None:
        ends = self._world.admin.stable_ends(self._world.topic, map(Partition, self._positions))
        self._positions = {
            at: min(offset + self._per_step, ends[Partition(at)]) for at, offset in self._positions.items()
        }
        self._say()

    def _say(self) -> None:
        report = SinkReport("sink-0/1", datetime.now(UTC), memory_ratio=0.1, commit_s=0.1)
        self._world.position(self._consumer, self._positions, report)

    def close(self) -> None:
        """Stop reading, and stay a member."""
        self._stop.set()
        self._thread.join()


ONE_SINK = Executor(replicas=1)
CONFIG = PolicyConfig(
    DegradationConfig(mode=Mode.AUTO, dwell_up_s=1, dwell_down_s=1, position_interval_s=0, in_hand_s=0)
)


def said(world: World) -> ControlView:
    reader = ControlReader(world.settings, world.pipeline.control_name, world.control)
    view = reader.read_all()
    reader.close()
    return view


def tell(world: World, position: int, ahead_s: float = 0.0, **more: object) -> None:
    """Say what a sink does; `ahead_s` if it is to count as fresh for as long as the test takes to come to it."""
    now = datetime.now(UTC)
    at = now + timedelta(seconds=ahead_s)
    world.read({0: position}, SinkReport("sink-0/1", at, memory_ratio=0.1, commit_s=0.1, **more))  # type: ignore[arg-type]
    world.commit({0: position}, CommitSignal(now, None))


def delete_control(world: World) -> None:
    client = AdminClient({"bootstrap.servers": world.settings.kafka_bootstrap_servers})
    client.delete_topics([world.control])[world.control].result(20)
