"""A state folder with a pipeline in it, and a pipeline on a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli import scrape
from k2_cli.stack.kafka import LocalKafka
from support.cli import Lake
from support.recovery import Recovered


@pytest.fixture(autouse=True)
def patient_scrapers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of a test answers, though on a crowded machine not always within the second that users wait."""
    monkeypatch.setattr(scrape, "TIMEOUT_S", 20.0)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty state folder with a pipeline of BTCUSDT."""
    return Lake(tmp_path / "k2")


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recovered]:
    """A pipeline with a topic and a lake of its own; the commands find it by the variables of its services."""
    workspace = Recovered(kafka.bootstrap_servers, tmp_path)
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    yield workspace
    workspace.close()
