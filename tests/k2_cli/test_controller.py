"""The controller as a process of `k2 up`: it decides, tells, and goes on where another one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml
from confluent_kafka.admin import AdminClient

from k2_cli import controller
from k2_cli.live import sinks_wanted
from k2_cli.scrape import Sample, Scraper
from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.ports import find_free
from k2_core import kafka as kafka_module
from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.control import CONTROL_TOPIC
from k2_core.control_topic import ControlReader
from k2_core.errors import KafkaUnavailableError
from k2_core.sink_report import SinkReport
from k2_core.types import Level
from support.controlled import World
from support.kafka import TopicFactory
from support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.kafka

SPEC = {
    "scaling": {"mode": "Auto", "assumedPerSecond": 100, "maxReplicas": 3},
    "degradation": {"mode": "Auto"},
}
BACKLOG = 15_000


@dataclass
class Running:
    """Controllers, one after the other, and what they are told of a slow sink."""

    world: World
    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    read: int = 0

    def start(self, **more: str) -> subprocess.Popen[bytes]:
        file = self.folder / "pipeline.yaml"
        document = self.world.pipeline.model_dump(mode="json", by_alias=True, exclude_unset=True)
        file.write_text(yaml.safe_dump(document))
        environment = os.environ | {
            "K2_PIPELINE_FILE": str(file),
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.world.settings.kafka_bootstrap_servers,
            "K2_METRICS_PORT": str(self.port),
            **more,
        }
        with (self.folder / f"controller-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "k2_cli.controller"], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> str:
        return (self.folder / f"controller-{len(self.processes) - 1}.log").read_text()

    def crawl(self) -> None:
        """Say what a sink says that is far too slow."""
        now = datetime.now(UTC)
        if not self.world.members:
            self.world.join()
        self.read += 1
        positions = dict.fromkeys(range(3), self.read)
        self.world.position(self.world.members[0], positions, SinkReport("sink-0/1", now, memory_ratio=0.1, commit_s=1))
        self.world.commit(positions, CommitSignal(now, None))

    def figures(self) -> Sample | None:
        scraper = Scraper()
        try:
            return scraper.read(f"http://127.0.0.1:{self.port}")
        finally:
            scraper.close()

    def shown(self) -> Sample:
        """The figures, however long a crowded machine takes to answer."""
        found: Sample = wait_until(self.figures, "the controller's figures")
        return found

    def level(self) -> Level | None:
        reader = ControlReader(self.world.settings, self.world.pipeline.control_name)
        try:
            command = reader.read_all().command
        finally:
            reader.close()
        return None if command is None else command.level

    def see(self, name: str, at_least: float) -> bool:
        """Whether a figure has come so far, while the sink crawls."""
        self.crawl()
        found = self.figures()
        return found is not None and (found.total(name) or 0) >= at_least

    def more_sinks(self) -> bool:
        self.crawl()
        return sinks_wanted(self.figures()) == 3

    def at_ease(self) -> bool:
        try:
            health = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=PATIENCE_S).json()
        except httpx.TransportError:
            return False
        return bool(health == {"status": "ok", "checks": {"control": "ok"}})


@pytest.fixture
def running(kafka: LocalKafka, topic_factory: TopicFactory, tmp_path: Path) -> Iterator[Running]:
    made = Running(World.new(kafka, topic_factory, **SPEC), tmp_path, find_free(str(tmp_path)))
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
    made.world.close()


def test_a_backlog_raises_level_and_sinks_and_its_death_changes_neither(running: Running) -> None:
    first = running.start()
    wait_until(lambda: running.see("k2_controller_turns_total", 3), "a controller that has rates")
    assert running.level() is Level.NORMAL
    for partition in range(3):
        running.world.produce(BACKLOG // 3, partition)
    wait_until(lambda: running.see("k2_controller_level", 1), "a level")
    level = running.level()
    assert level is not None
    assert level >= Level.SOFT
    wait_until(running.more_sinks, "more sinks")
    first.kill()
    first.wait()
    assert running.level() is not None
    second = running.start()
    wait_until(lambda: running.see("k2_controller_turns_total", 2), "another controller")
    found = running.shown()
    assert (found.total("k2_controller_level") or 0) >= level
    assert sinks_wanted(found) == 3
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_S) == 0
    assert running.level() is Level.SOFT  # with the pipeline: sinks are to bring in what they put off


def test_a_control_topic_that_is_deleted_is_made_again_at_the_same_level(running: Running) -> None:
    process = running.start()
    wait_until(lambda: running.see("k2_controller_turns_total", 3), "a controller that has rates")
    for partition in range(3):
        running.world.produce(BACKLOG // 3, partition)
    wait_until(lambda: running.see("k2_controller_level", 1), "a level")
    client = AdminClient({"bootstrap.servers": running.world.settings.kafka_bootstrap_servers})
    client.delete_topics([CONTROL_TOPIC])[CONTROL_TOPIC].result(20)
    wait_until(lambda: running.see("k2_controller_turns_total", 3) and "restored" in running.log, "the topic")
    level = wait_until(lambda: running.see("k2_controller_turns_total", 3) and running.level(), "what was told")
    assert level >= Level.SOFT
    assert process.poll() is None
    wait_until(running.at_ease, "a controller at ease")


def test_wrong_settings_are_2(running: Running) -> None:
    process = running.start(K2_KAFKA_REPLICATION_FACTOR="none")
    assert process.wait(PATIENCE_S) == 2
    assert "K2_KAFKA_REPLICATION_FACTOR" in running.log
    assert "Traceback" not in running.log


def test_told_to_stop_while_kafka_is_away_it_ends_well(running: Running) -> None:
    process = running.start(K2_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    wait_until(lambda: "start: will be tried again" in running.log, "the first try to fail")
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in running.log


def test_a_kafka_that_is_away_is_asked_again_until_it_is_told_to_stop(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "ADMIN_TIMEOUT_S", 0.3)
    stop = threading.Event()
    stop.set()
    with pytest.raises(KafkaUnavailableError):
        controller._start(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1"), running.world.pipeline, stop)
