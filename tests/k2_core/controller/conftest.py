"""A pipeline of each test alone on the session's Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.control_topic import ControlReader, ControlWriter
from k2_core.controller.look import Looker
from k2_core.controller.loop import Controller
from k2_core.policy.thresholds import PolicyConfig
from support.controlled import CONFIG, World
from support.kafka import TopicFactory


@pytest.fixture
def world(kafka: LocalKafka, topic_factory: TopicFactory) -> Iterator[World]:
    made = World.new(kafka, topic_factory)
    yield made
    made.close()


@pytest.fixture
def controllers(world: World) -> Iterator[Callable[..., Controller]]:
    """Make controllers; they are closed with the test."""
    made: list[Controller] = []

    def make(config: PolicyConfig = CONFIG) -> Controller:
        looker = Looker(world.settings, world.pipeline)
        reader = ControlReader(world.settings, world.pipeline.control_name, world.control)
        writer = ControlWriter(world.settings, world.pipeline.control_name, world.control)
        made.append(Controller(config, looker, reader, writer))
        return made[-1]

    yield make
    for one in made:
        one.close()
