"""What the tests of the query service share: a world of log and table, and the service that reads it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from support.api import Api, serve, wait_healthy
from support.query import World


@pytest.fixture
def world(kafka: LocalKafka, tmp_path: Path) -> Iterator[World]:
    """A pipeline of its own on the session's Kafka; neither topic nor table exist yet."""
    made = World(kafka.bootstrap_servers, tmp_path, f"q{uuid.uuid4().hex[:12]}")
    yield made
    made.close()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    if made.topic in admin.list_topics(timeout=20).topics:
        admin.delete_topics([made.topic])[made.topic].result(20)


@pytest.fixture
def api(world: World) -> Iterator[Api]:
    """The service over a world whose topic exists."""
    world.create_topic()
    with serve(world.settings, world.pipeline) as running:
        wait_healthy(running)
        yield running


@pytest.fixture(scope="module")
def shared_api(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service without data, for tests that only ask."""
    made = World(kafka.bootstrap_servers, tmp_path_factory.mktemp("shared"), f"q{uuid.uuid4().hex[:12]}")
    (made.folder / "warehouse").mkdir()
    with serve(made.settings, made.pipeline) as running:
        yield running
    made.close()
