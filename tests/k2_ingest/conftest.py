"""What the tests of ingest share: a running exchange, a running ingest process, and a topic read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from support.ingest import IngestProcess, Workspace


@pytest.fixture
def workspace(kafka: LocalKafka, tmp_path: Path) -> Iterator[Workspace]:
    """A pipeline of its own on the session's Kafka; ends the processes that it started."""
    space = Workspace(kafka.bootstrap_servers, tmp_path)
    yield space
    _end(space.processes)


def _end(processes: list[IngestProcess]) -> None:
    for process in processes:
        process.kill()
