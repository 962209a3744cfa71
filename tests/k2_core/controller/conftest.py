"""A pipeline of each test alone on the session's Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from k2_core.spec import parse_pipeline
from k2_core.types import TopicName
from support.controlled import PARTITIONS, World
from support.kafka import TopicFactory


@pytest.fixture
def world(kafka: LocalKafka, topic_factory: TopicFactory) -> Iterator[World]:
    prefix = f"t{uuid.uuid4().hex[:12]}"
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": PARTITIONS}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "crypto"},
        "spec": {"namespace": prefix, "ingestion": [source]},
    }
    control = TopicName(topic_factory("control", config={"cleanup.policy": "compact"}))
    made = World(ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers), parse_pipeline(document), control)
    topic_factory._made.append(made.topic)
    yield made
    made.close()
