"""KafkaAdmin on a real broker: topics, ids, log starts, stable ends, group offsets, and nobody there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from k2_cli.stack.kafka import LocalKafka
from k2_core import kafka as module
from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, SetupError, SpecError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.types import Partition, TopicName
from support.kafka import TopicFactory

FIRST, SECOND = Partition(0), Partition(1)
PATIENCE_S = 20.0


@pytest.fixture
def settings(kafka: LocalKafka) -> ServiceSettings:
    return ServiceSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def admin(settings: ServiceSettings) -> KafkaAdmin:
    return KafkaAdmin(settings)


@pytest.fixture
def raw_admin(kafka: LocalKafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})


@pytest.fixture
def new_topic(raw_admin: AdminClient) -> Iterator[TopicName]:
    """A name that is free, and what was made under it is deleted."""
    name = TopicName(f"ensure-{uuid.uuid4().hex[:12]}")
    yield name
    for made in (name, f"{name}-2"):
        if made in raw_admin.list_topics(timeout=PATIENCE_S).topics:
            raw_admin.delete_topics([made])[made].result(PATIENCE_S)


def make(admin: KafkaAdmin, factory: TopicFactory, partitions: int = 1) -> TopicName:
    """A new topic that the broker has heard of."""
    topic = TopicName(factory(partitions=partitions))
    admin.ensure_topics({topic: partitions})
    return topic


def fill(servers: str, topic: str, count: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": servers})
    for number in range(count):
        producer.produce(topic, str(number), partition=partition)
    assert producer.flush(PATIENCE_S) == 0


class TestClientConfig:
    def test_a_laptop(self) -> None:
        config = client_config(ServiceSettings(kafka_bootstrap_servers="h:1"))
        assert config == {"bootstrap.servers": "h:1", "security.protocol": "PLAINTEXT", "client.id": "k2"}

    def test_a_cluster(self) -> None:
        authorities = Path(certifi.where())
        settings = ServiceSettings(
            kafka_security_protocol="SASL_SSL",
            kafka_ca_file=authorities,
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username="me",
            kafka_sasl_password=SecretStr("secret"),
        )
        found = client_config(settings)
        assert {key: found[key] for key in found if key.startswith(("ssl", "sasl", "security"))} == {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(authorities),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": "secret",
        }

    @pytest.mark.parametrize(
        ("left_out", "named"),
        [
            ("kafka_sasl_mechanism", "K2_KAFKA_SASL_MECHANISM"),
            ("kafka_sasl_username", "K2_KAFKA_SASL_USERNAME"),
            ("kafka_sasl_password", "K2_KAFKA_SASL_PASSWORD"),
        ],
        ids=["mechanism", "user", "password"],
    )
    def test_a_part_of_the_login_that_is_missing_is_named(self, left_out: str, named: str) -> None:
        given = {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "me", "kafka_sasl_password": "hunter2"}
        given = {name: value for name, value in given.items() if name != left_out}
        settings = ServiceSettings.model_validate({"kafka_security_protocol": "SASL_PLAINTEXT", **given})
        with pytest.raises(SpecError, match=f"{named}: found none, expected a value for SASL_PLAINTEXT") as caught:
            client_config(settings)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "no-pem"])
    def test_a_ca_file_that_cannot_be_one_is_named(self, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "ca.crt"
        if content is not None:
            path.write_text(content)
        with pytest.raises(SpecError, match=rf"K2_KAFKA_CA_FILE: found {path} \(.*\), expected a PEM file"):
            client_config(ServiceSettings(kafka_security_protocol="SSL", kafka_ca_file=path))

    def test_more_keys_win(self) -> None:
        found = client_config(ServiceSettings(), fetch_wait_max_ms=5, client_id="k2-sink")
        assert (found["fetch.wait.max.ms"], found["client.id"]) == (5, "k2-sink")


@pytest.mark.kafka
class TestTopics:
    def test_created_with_partitions_and_settings(
        self, admin: KafkaAdmin, raw_admin: AdminClient, new_topic: TopicName
    ) -> None:
        admin.ensure_topics({new_topic: 3}, {"cleanup.policy": "compact"})
        described = admin.describe_topics([new_topic])
        assert described[new_topic][1] == 3
        from confluent_kafka.admin import ConfigResource, ResourceType

        resource = ConfigResource(ResourceType.TOPIC, new_topic)
        config = raw_admin.describe_configs([resource])[resource].result(PATIENCE_S)
        assert config["cleanup.policy"].value == "compact"

    def test_a_second_time_changes_nothing(self, admin: KafkaAdmin, new_topic: TopicName) -> None:
        admin.ensure_topics({new_topic: 2})
        before = admin.describe_topics([new_topic])
        admin.ensure_topics({new_topic: 2})
        assert admin.describe_topics([new_topic]) == before

    def test_one_is_there_and_one_is_not(self, admin: KafkaAdmin, new_topic: TopicName) -> None:
        admin.ensure_topics({new_topic: 1})
        other = TopicName(f"{new_topic}-2")
        admin.ensure_topics({new_topic: 1, other: 1})
        assert admin.describe_topics([new_topic, other]).keys() == {new_topic, other}

    def test_more_partitions_than_wanted_are_fine(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        topic = make(admin, topic_factory, partitions=4)
        admin.ensure_topics({topic: 2})
        assert admin.describe_topics([topic])[topic][1] == 4

    def test_fewer_are_refused(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        topic = make(admin, topic_factory, partitions=2)
        with pytest.raises(SetupError, match=f"topic {topic}: found 2 partitions, expected at least 5"):
            admin.ensure_topics({topic: 5})
        assert admin.describe_topics([topic])[topic][1] == 2

    def test_a_broker_that_never_hears_of_a_topic(
        self, admin: KafkaAdmin, new_topic: TopicName, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ADMIN_TIMEOUT_S", 0.2)
        monkeypatch.setattr(admin, "describe_topics", lambda _: {})
        with pytest.raises(KafkaUnavailableError, match=f"found no broker that knows \\['{new_topic}'\\]"):
            admin.ensure_topics({new_topic: 1})

    def test_a_name_that_kafka_refuses(self, admin: KafkaAdmin) -> None:
        with pytest.raises(SetupError, match=r"Kafka refused: .*invalid"):
            admin.ensure_topics({TopicName("not/a/topic"): 1})

    def test_missing_ones_are_left_out(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        topic = make(admin, topic_factory)
        assert admin.describe_topics([topic, TopicName("never-made")]).keys() == {topic}

    def test_for_how_long_each_keeps_records(self, admin: KafkaAdmin, new_topic: TopicName) -> None:
        for_ever = TopicName(f"{new_topic}-2")
        admin.ensure_topics({new_topic: 1}, {"retention.ms": "60000"})
        admin.ensure_topics({for_ever: 1}, {"retention.ms": "-1"})
        assert admin.retention_ms([new_topic, for_ever]) == {new_topic: 60_000}
        assert admin.retention_ms([]) == {}

    def test_a_name_that_cannot_be_described(self, admin: KafkaAdmin) -> None:
        with pytest.raises(SetupError, match="Kafka refused"):
            admin.describe_topics([TopicName("not/a/topic")])

    def test_a_topic_made_again_has_another_id(self, admin: KafkaAdmin, raw_admin: AdminClient) -> None:
        name = TopicName(f"again-{uuid.uuid4().hex[:12]}")
        ids = []
        for _ in range(2):
            admin.ensure_topics({name: 1})
            ids.append(admin.describe_topics([name])[name][0])
            raw_admin.delete_topics([name], operation_timeout=PATIENCE_S)[name].result(PATIENCE_S)
            deadline_s = time.monotonic() + PATIENCE_S
            while admin.describe_topics([name]):  # the broker hears of the end later too
                assert time.monotonic() < deadline_s
        assert ids[0] != ids[1]

    def test_cluster_id(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        assert admin.cluster_id() == topic_factory.cluster_id()


@pytest.mark.kafka
class TestPositions:
    def test_an_empty_topic(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        topic = make(admin, topic_factory, partitions=2)
        assert admin.log_starts(topic, [FIRST, SECOND]) == {0: 0, 1: 0}
        assert admin.stable_ends(topic, [FIRST, SECOND]) == {0: 0, 1: 0}

    def test_no_partitions_ask_nothing(self, admin: KafkaAdmin) -> None:
        assert admin.log_starts(TopicName("never-made"), []) == {}

    def test_each_partition_has_its_own(
        self, admin: KafkaAdmin, kafka: LocalKafka, topic_factory: TopicFactory
    ) -> None:
        topic = make(admin, topic_factory, partitions=2)
        fill(kafka.bootstrap_servers, topic, 5, partition=1)
        assert admin.stable_ends(topic, [FIRST, SECOND]) == {0: 0, 1: 5}

    def test_log_starts_after_records_were_deleted(
        self, admin: KafkaAdmin, raw_admin: AdminClient, kafka: LocalKafka, topic_factory: TopicFactory
    ) -> None:
        topic = make(admin, topic_factory)
        fill(kafka.bootstrap_servers, topic, 10)
        before = TopicPartition(topic, 0, 4)
        raw_admin.delete_records([before])[before].result(PATIENCE_S)
        assert admin.log_starts(topic, [FIRST]) == {0: 4}
        assert admin.stable_ends(topic, [FIRST]) == {0: 10}

    def test_a_partition_that_is_missing(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        topic = make(admin, topic_factory)
        # What a partition looks like whose leader is being elected: it may come.
        with pytest.raises(KafkaUnavailableError, match="No leaders found"):
            admin.stable_ends(topic, [Partition(9)])

    def test_stable_ends_stay_before_an_open_transaction(
        self, admin: KafkaAdmin, kafka: LocalKafka, topic_factory: TopicFactory
    ) -> None:
        topic = make(admin, topic_factory)
        fill(kafka.bootstrap_servers, topic, 3)
        producer = Producer(
            {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"test-{uuid.uuid4().hex}"}
        )
        producer.init_transactions(PATIENCE_S)
        producer.begin_transaction()
        producer.produce(topic, "open", partition=0)
        producer.flush(PATIENCE_S)
        assert admin.stable_ends(topic, [FIRST]) == {0: 3}
        producer.commit_transaction(PATIENCE_S)
        # A record and the marker that ends the transaction, which takes an offset too.
        deadline_s = time.monotonic() + PATIENCE_S
        while admin.stable_ends(topic, [FIRST]) != {0: 5}:
            assert time.monotonic() < deadline_s
        assert admin.log_starts(topic, [FIRST]) == {0: 0}


@pytest.mark.kafka
class TestGroupOffsets:
    def test_what_a_group_wrote_down(self, admin: KafkaAdmin, kafka: LocalKafka, topic_factory: TopicFactory) -> None:
        topic, other = make(admin, topic_factory, partitions=3), make(admin, topic_factory)
        group = f"group-{uuid.uuid4().hex}"
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
        offsets = [TopicPartition(topic, 0, 7), TopicPartition(topic, 2, 9), TopicPartition(other, 0, 1)]
        consumer.commit(offsets=offsets, asynchronous=False)
        consumer.close()
        assert admin.group_offsets(group, topic) == {0: 7, 2: 9}

    def test_a_group_that_never_was(self, admin: KafkaAdmin, topic_factory: TopicFactory) -> None:
        assert admin.group_offsets(f"group-{uuid.uuid4().hex}", make(admin, topic_factory)) == {}


class TestNobodyThere:
    def test_each_question_ends_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ADMIN_TIMEOUT_S", 0.3)
        admin = KafkaAdmin(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1"))
        topic = TopicName("trades")
        started_s = time.monotonic()
        for question in (
            admin.cluster_id,
            lambda: admin.ensure_topics({topic: 1}),
            lambda: admin.describe_topics([topic]),
            lambda: admin.stable_ends(topic, [FIRST]),
            lambda: admin.group_offsets("group", topic),
        ):
            with pytest.raises(KafkaUnavailableError, match="expected"):
                question()
        assert time.monotonic() - started_s < 10
