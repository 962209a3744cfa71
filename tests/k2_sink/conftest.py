"""Fixtures of the sink's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from support.sink import SinkWorkspace


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    """A pipeline with a topic and a lake of its own; its sinks end with the test."""
    workspace = SinkWorkspace(kafka.bootstrap_servers, tmp_path)
    yield workspace
    workspace.close()
