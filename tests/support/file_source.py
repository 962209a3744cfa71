"""A pipeline whose source is files, its ingest processes and the topics that they fill, for tests."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from confluent_kafka.cimpl import Message

from k2_core.codec import BatchDecoder
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.topics import dead_letter_topic
from k2_core.types import TopicName
from support.ingest import IngestProcess, read_topic


@dataclass
class FileWorkspace:
    """One pipeline on a Kafka.

    Args:
        bootstrap_servers: Of Kafka.
        folder: For its file and logs.
        files: Each file's name, path and symbol.
    """

    bootstrap_servers: str
    folder: Path
    files: list[tuple[str, Path | str, str]] = field(default_factory=list)
    namespace: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    processes: list[IngestProcess] = field(default_factory=list)

    @property
    def topic(self) -> TopicName:
        """The topic of its trades."""
        return TopicName(f"{self.namespace}.equities.trades.asx")

    @property
    def document(self) -> dict[str, Any]:
        """Its pipeline."""
        files = [{"name": name, "path": str(path), "symbol": symbol} for name, path, symbol in self.files]
        return {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": "test"},
            "spec": {
                "namespace": self.namespace,
                "ingestion": [{"name": "asx", "venue": "asx", "partitions": 3, "files": files}],
            },
        }

    def start(self, *, once: bool = True, **more: str) -> IngestProcess:
        """Start reading; `once` ends when all files are in the log."""
        path = self.folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(self.document))
        environment = {
            "K2_PIPELINE_FILE": str(path),
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "K2_INGEST_STOP_AT_END": str(once).lower(),
        }
        process = IngestProcess(environment | more, self.folder / f"ingest-{len(self.processes)}.log")
        self.processes.append(process)
        return process

    def rows(self) -> pa.Table:
        """All trades in the topic, decoded, partition by partition in the order of the log."""
        values = [message.value() for message in read_topic(self.bootstrap_servers, self.topic)]
        decoded = BatchDecoder(TRADES, PackagedSchemas().by_id).decode(values)
        assert decoded.rejected == ()
        return decoded.rows

    def row_numbers(self) -> dict[str, list[int]]:
        """The row numbers of each dataset, in the order of the log."""
        found: dict[str, list[int]] = {}
        for row in self.rows().select(["market", "sequence"]).to_pylist():
            found.setdefault(row["market"], []).append(row["sequence"])
        return found

    def letters(self) -> list[tuple[bytes | None, dict[str, str]]]:
        """Dead letters: value and headers."""
        found: list[Message] = read_topic(self.bootstrap_servers, dead_letter_topic(self.topic))
        return [(letter.value(), _texts(letter)) for letter in found]

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            process.kill()


def _texts(letter: Message) -> dict[str, str]:
    headers = dict(letter.headers() or [])
    return {name: value.decode() for name, value in headers.items() if isinstance(value, bytes)}
