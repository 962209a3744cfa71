"""Fixtures of all tests: the session's Kafka and schema registry, topics, the proof that no child process survives."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from k2_cli.stack.kafka import LocalKafka
from support import registry as registries
from support.kafka import TopicFactory, start_or_skip
from support.registry import LocalRegistry


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A running one-node Kafka for the whole session: tests must not stop it. Mark its users `kafka`."""
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"))
    start_or_skip(broker)
    yield broker
    broker.stop()


@pytest.fixture
def topic_factory(kafka: LocalKafka) -> Iterator[TopicFactory]:
    """Creates uniquely named topics and deletes them after the test."""
    factory = TopicFactory(kafka.bootstrap_servers)
    yield factory
    factory.delete_all()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A running schema registry for the whole session: tests must not stop it."""
    server = LocalRegistry(tmp_path_factory.mktemp("registry"))
    registries.start_or_skip(server)
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def no_process_survives() -> Iterator[None]:
    """Fails the session if a child of pytest outlives all fixtures (this one is set up first, torn down last)."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    survivors = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(survivors, timeout=5)
    assert not alive, f"child processes survive the tests: {[(c.pid, c.name()) for c in alive]}"
