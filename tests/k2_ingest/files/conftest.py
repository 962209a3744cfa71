"""What the tests of files share: a pipeline of files on the session's Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from support.file_source import FileWorkspace


@pytest.fixture
def workspace(kafka: LocalKafka, tmp_path: Path) -> Iterator[FileWorkspace]:
    """A pipeline of its own; ends the processes that it started."""
    space = FileWorkspace(kafka.bootstrap_servers, tmp_path)
    yield space
    space.end()
