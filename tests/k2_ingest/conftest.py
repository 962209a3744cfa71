"""What the tests of ingest share: a running exchange, a running ingest process, and a topic read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from support.ingest import IngestProcess, Workspace

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def captures_dir() -> Path:
    """The folder of real market data; see CONTRIBUTING for what it holds."""
    folder = Path(os.environ.get("K2_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the market-data captures: found no folder {folder}; set K2_TEST_DATA")
    return folder


@pytest.fixture
def workspace(kafka: LocalKafka, tmp_path: Path) -> Iterator[Workspace]:
    """A pipeline of its own on the session's Kafka; ends the processes that it started."""
    space = Workspace(kafka.bootstrap_servers, tmp_path)
    yield space
    _end(space.processes)


def _end(processes: list[IngestProcess]) -> None:
    for process in processes:
        process.kill()
