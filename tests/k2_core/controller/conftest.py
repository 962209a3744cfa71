"""A pipeline of each test alone on the session's Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from k2_cli.stack.kafka import LocalKafka
from support.controlled import World
from support.kafka import TopicFactory


@pytest.fixture
def world(kafka: LocalKafka, topic_factory: TopicFactory) -> Iterator[World]:
    made = World.new(kafka, topic_factory)
    yield made
    made.close()
