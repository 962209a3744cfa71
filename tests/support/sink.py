"""A pipeline's topic, sink processes on it, and the judgement of what they did, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_core.control import Command
from k2_core.control_topic import ControlWriter
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.state import STATE_KEY, CommitState, owed_records
from k2_core.topics import DEAD_LETTER_PARTITIONS, dead_letter_topic, partition_of
from k2_core.types import Level, Partition, Symbol, TopicName
from support.lake import (
    by_message_id,
    committed_state,
    environment_settings,
    lake_environment,
    records_of,
    table_rows,
    trades_table,
)
from support.records import Record, encode
from support.waiting import wait_until

PATIENCE_S = 90.0
NAME = "test"
"""Of every pipeline here; their namespaces differ."""
SESSION_TIMEOUT_S = 2
"""Of the tests' sinks: a killed one is replaced after this time."""


class SinkProcess:
    """A running `python -m k2_sink`."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "k2_sink"], env={**os.environ, **environment}, stderr=stderr
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        whole = self.log.read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line) for line in whole if line.startswith(b"{")]

    def said(self, message: str) -> list[dict[str, Any]]:
        """Return its log lines with this in the message."""
        return [line for line in self.lines if message in line["message"]]

    def wait_said(self, message: str, count: int = 1) -> None:
        """Return when it has logged this so often."""
        wait_until(lambda: len(self.said(message)) >= count or self.process.poll() is not None, f"log line {message!r}")
        assert len(self.said(message)) >= count, f"ended without {message!r}:\n{self.log.read_text()}"

    def get(self, path: str) -> httpx.Response:
        """Ask its health server."""
        self.wait_said("sink ready")
        return httpx.get(f"http://127.0.0.1:{self.said('sink ready')[0]['metrics_port']}{path}", timeout=PATIENCE_S)

    def metric(self, name: str) -> float:
        """Return the sum of a series over its labels."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))

    def wait_owned(self, count: int) -> None:
        """Return when it owns so many partitions."""
        wait_until(lambda: self.metric("k2_sink_owned_partitions") == count, f"{count} partitions owned")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return its exit status once it has one."""
        return self.process.wait(PATIENCE_S)

    def terminate(self) -> int:
        """Ask it to drain, and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it without warning, if it still runs."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@dataclass
class SinkWorkspace:
    """One pipeline: its topics on a Kafka, its lake in a folder or where `lake` says, its sinks.

    `kafka` holds what a client needs beyond the address, as the services' variables. `priorities` are the
    symbols of the pipeline file, `steps` what else it says of some of them; `spec` is what else it holds: unless given,
    raw files at level 3 although the broker keeps records for a week.
    """

    bootstrap_servers: str
    folder: Path
    partitions: int = 4
    sink: Mapping[str, Any] = field(default_factory=lambda: {"commitIntervalSeconds": 0.5})
    namespace: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    sinks: list[SinkProcess] = field(default_factory=list)
    lake: Mapping[str, str] | None = None
    kafka: Mapping[str, str] = field(default_factory=dict)
    priorities: Mapping[str, str] = field(default_factory=lambda: {"BTCUSDT": "normal"})
    steps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=lambda: {"degradation": {"rawFilesBelowRetentionHours": 87_600}})

    def __post_init__(self) -> None:
        self.lake = lake_environment(self.folder) if self.lake is None else self.lake
        bootstrap = {"K2_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}
        self.settings = environment_settings({**bootstrap, **self.lake, **self.kafka})
        self.admin.ensure_topics({self.topic: self.partitions, dead_letter_topic(self.topic): DEAD_LETTER_PARTITIONS})
        self.producer = Producer(client_config(self.settings, enable_idempotence=True, linger_ms=5))

    @property
    def admin(self) -> KafkaAdmin:
        """Return an admin client of the pipeline's Kafka."""
        return KafkaAdmin(self.settings)

    @property
    def topic(self) -> TopicName:
        """The topic of its trades."""
        return TopicName(f"{self.namespace}.crypto.trades.binance")

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables of its sink."""
        source = {
            "name": "binance",
            "venue": "binance",
            "partitions": self.partitions,
            "symbols": [
                {"name": name, "priority": priority, **self.steps.get(name, {})}
                for name, priority in self.priorities.items()
            ],
        }
        document = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": NAME},
            "spec": {"namespace": self.namespace, "ingestion": [source], "sink": dict(self.sink), **self.spec},
        }
        path = self.folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(document))
        return {
            "K2_PIPELINE_FILE": str(path),
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "K2_SINK_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            **(self.lake or {}),
            **self.kafka,
            **more,
        }

    def set_level(self, level: int) -> None:
        """Tell all sinks a level, as the controller does: they act on it within a second."""
        writer = ControlWriter(self.settings, f"{self.namespace}.{NAME}")
        writer.command(Command(Level(level), "FirstCrossing", datetime.now(UTC)))

    def start(self, **more: str) -> SinkProcess:
        """Start one more sink."""
        process = SinkProcess(self.environment(**more), self.folder / f"sink-{len(self.sinks)}.log")
        self.sinks.append(process)
        return process

    def run_to_end(self) -> SinkProcess:
        """Run a sink until all that is in the log is committed."""
        process = self.start(K2_SINK_STOP_AT_END="true")
        assert process.wait() == 0, process.log.read_text()
        return process

    def produce(self, trades: Sequence[Record]) -> None:
        """Write trades to their partitions; they are acknowledged when this returns."""
        for trade in trades:
            symbol = Symbol(trade["symbol"])
            self.produce_value(encode(trade), int(partition_of(symbol, self.partitions)), symbol.encode())
        assert self.producer.flush(PATIENCE_S) == 0

    def produce_value(self, value: bytes | None, partition: int = 0, key: bytes | None = None) -> None:
        """Write any bytes; call `producer.flush` when done."""
        self.producer.produce(self.topic, value=value, partition=partition, key=key)
        self.producer.poll(0)

    def close(self) -> None:
        """End what still runs."""
        for process in self.sinks:
            process.kill()

    def committed(self) -> int:
        """Return how many offsets the table has taken in."""
        state = committed_state(self.settings, self.namespace)
        if state is None or self.topic not in state.topics:
            return 0
        return sum(at.next - at.origin for at in state.topics[self.topic].partitions.values())

    def wait_committed(self, offsets: int) -> None:
        """Return when the table has taken in at least so many offsets."""
        wait_until(lambda: self.committed() >= offsets, f"{offsets} offsets committed")

    def owed(self) -> int:
        """Return how many records the table's ledger owes."""
        state = committed_state(self.settings, self.namespace)
        return owed_records(state.open_ledger) if state is not None else 0

    def trim_to_table(self) -> None:
        """Remove from the log all that the table has passed, as retention does."""
        state = committed_state(self.settings, self.namespace)
        assert state is not None
        cuts = [TopicPartition(self.topic, at, one.next) for at, one in state.topics[self.topic].partitions.items()]
        admin = AdminClient(client_config(self.settings))  # named: without it nobody would answer
        for cut in admin.delete_records(cuts).values():
            cut.result(PATIENCE_S)

    def check_every_snapshot(self) -> int:
        """Check at each snapshot that rows, counts and what is owed make up the log; return how many owed something."""
        table = trades_table(self.settings, self.namespace)
        assert table is not None
        owing = 0
        for snapshot in table.snapshots():
            assert snapshot.summary is not None
            state = CommitState.parse(snapshot.summary.additional_properties[STATE_KEY])
            rows = table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=("kafka_partition",)).to_arrow()
            held = Counter(rows.column("kafka_partition").to_pylist())
            for number, at in state.topics[self.topic].partitions.items():
                assert at.rows(owed_records(state.deferred(self.topic, number))) == held[number]
            owing += bool(state.open_ledger)
        return owing

    def check(self, trades: Sequence[Record], **counts: int) -> None:
        """Check that the table holds exactly these trades, each once, and that every offset is accounted for.

        Args:
            trades: What must be in the table.
            counts: Expected sums over partitions of `duplicates`, `dead_letters`, `aged`; 0 unless given.
        """
        rows = table_rows(self.settings, self.namespace)
        assert by_message_id(records_of(rows)) == by_message_id(list(trades))
        positions = list(
            zip(rows.column("kafka_partition").to_pylist(), rows.column("kafka_offset").to_pylist(), strict=True)
        )
        assert len(set(positions)) == len(positions)
        state = committed_state(self.settings, self.namespace)
        assert state is not None
        partitions = state.topics[self.topic].partitions
        ends = self.admin.stable_ends(self.topic, [Partition(number) for number in range(self.partitions)])
        for number, at in partitions.items():
            assert at.next == ends[number]
            assert at.rows() == sum(partition == number for partition, _ in positions)
        found = {
            name: sum(getattr(at, name) for at in partitions.values())
            for name in ("duplicates", "dead_letters", "aged")
        }
        assert found == {name: counts.get(name, 0) for name in found}
