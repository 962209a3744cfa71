"""An exchange in a thread, an ingest process, and the topic that it fills, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import yaml
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.cimpl import Message

from k2_core.codec import BatchDecoder
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import TopicName
from k2_ingest.exchange.config import ExchangeConfig
from k2_ingest.exchange.server import Exchange
from support.waiting import wait_until

PATIENCE_S = 60.0


@contextmanager
def running_exchange(config: ExchangeConfig) -> Iterator[Exchange]:
    """An exchange on an event loop of its own, in a thread."""
    exchange = Exchange(config)
    started, stop = threading.Event(), threading.Event()

    async def run() -> None:
        async with exchange:
            started.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="exchange")
    thread.start()
    try:
        assert started.wait(PATIENCE_S)
        yield exchange
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def exchange_status(exchange: Exchange) -> Any:
    """The exchange's own account of what it sent."""
    return httpx.get(f"{exchange.rest_url}/k2/status", timeout=PATIENCE_S).json()


class IngestProcess:
    """A running `python -m k2_ingest`."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "k2_ingest"], env={**os.environ, **environment}, stderr=stderr
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        complete = self._log.read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line) for line in complete if line.startswith(b"{")]

    def said(self, message: str) -> list[dict[str, Any]]:
        """Its log lines with this message."""
        return [line for line in self.lines if message in line["message"]]

    def wait_said(self, message: str) -> dict[str, Any]:
        """Its first log line with this message, once there is one."""

        def done() -> bool:
            return bool(self.said(message)) or self._process.poll() is not None

        wait_until(done, f"log line {message!r}")
        assert self.said(message), f"ended without {message!r}:\n{self._log.read_text()}"
        return self.said(message)[0]

    def metric(self, name: str) -> float:
        """The sum of a series over its labels."""
        lines = self.get("metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))

    def health(self) -> httpx.Response:
        """The health page."""
        return self.get("health")

    def get(self, page: str) -> httpx.Response:
        """A page of its metrics port."""
        port = self.wait_said("ingest runs")["metrics_port"]
        return httpx.get(f"http://127.0.0.1:{port}/{page}", timeout=PATIENCE_S)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; returns the exit code."""
        return self._process.wait(timeout_s)

    def terminate(self) -> None:
        """Ask it to drain."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it without warning."""
        self._process.kill()
        self._process.wait(PATIENCE_S)


@dataclass
class Workspace:
    """One pipeline on a Kafka, its processes and its topic."""

    bootstrap_servers: str
    folder: Path
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    partitions: int = 4
    namespace: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    processes: list[IngestProcess] = field(default_factory=list)

    @property
    def topic(self) -> TopicName:
        """The topic of its trades."""
        return TopicName(f"{self.namespace}.crypto.trades.binance")

    def pipeline_file(self) -> Path:
        """Its pipeline as a file."""
        source = {
            "name": "binance",
            "venue": "binance",
            "partitions": self.partitions,
            "symbols": [{"name": name} for name in self.symbols],
        }
        document = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": "test"},
            "spec": {"namespace": self.namespace, "ingestion": [source]},
        }
        path = self.folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def environment(self, exchange: Exchange, **more: str) -> dict[str, str]:
        """The variables of an ingest process that reads from this exchange."""
        return {
            "K2_PIPELINE_FILE": str(self.pipeline_file()),
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "K2_INGEST_URL": exchange.websocket_url,
            "K2_INGEST_REST_URL": exchange.rest_url,
            "K2_INGEST_STOP_AT_END": "true",
            **more,
        }

    def start(self, exchange: Exchange, **more: str) -> IngestProcess:
        """Start ingesting from an exchange."""
        log = self.folder / f"ingest-{len(self.processes)}.log"
        process = IngestProcess(self.environment(exchange, **more), log)
        self.processes.append(process)
        return process

    def messages(self, topic: TopicName | None = None) -> list[Message]:
        """All that a topic holds, partition by partition."""
        return read_topic(self.bootstrap_servers, topic or self.topic)

    def rows(self) -> pa.Table:
        """All trades in the topic, decoded."""
        decoded = BatchDecoder(TRADES, PackagedSchemas().by_id).decode([message.value() for message in self.messages()])
        assert decoded.rejected == ()
        return decoded.rows


def read_topic(bootstrap_servers: str, topic: str) -> list[Message]:
    """All messages of a topic, partition by partition, in the order of the log."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test", "enable.auto.commit": False})
    found: list[Message] = []
    try:
        for partition in sorted(consumer.list_topics(topic, timeout=20).topics[topic].partitions):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            consumer.assign([TopicPartition(topic, partition, 0)])
            count = 0
            while count < end:
                batch = consumer.consume(min(10_000, end - count), timeout=20)
                assert batch, f"{topic}[{partition}]: read {count} of {end}"
                found += batch
                count += len(batch)
    finally:
        consumer.close()
    return found
