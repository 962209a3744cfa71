"""k2_cli.stack.kafka against the real thing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack import artifacts, ports
from k2_cli.stack import kafka as kafka_module
from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import SetupError
from support.kafka import TopicFactory

pytestmark = pytest.mark.kafka


def send(kafka: LocalKafka, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True, "log_level": 0})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def read(kafka: LocalKafka, topic: str, count: int) -> list[bytes | None]:
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "log_level": 0}
    consumer = Consumer({**settings, "auto.offset.reset": "error", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, timeout=20)]
    finally:
        consumer.close()


@pytest.fixture
def own(kafka: LocalKafka, tmp_path: Path) -> Iterator[LocalKafka]:
    """A second broker that the test may break; `kafka` has fetched and recorded what it needs."""
    broker = LocalKafka(tmp_path / "state with, odd=näme")
    yield broker
    broker.stop()


def test_a_group_reads_what_an_idempotent_producer_wrote(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = topic_factory(partitions=2)
    send(kafka, topic, b"hello")
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(settings)
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        assert message is not None
        assert message.value() == b"hello"
        consumer.commit(message=message, asynchronous=False)
    finally:
        consumer.close()


def test_a_transaction_commits(kafka: LocalKafka, topic_factory: TopicFactory) -> None:
    topic = topic_factory()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"in a transaction")
    producer.commit_transaction(20)
    assert read(kafka, topic, 1) == [b"in a transaction"]


def test_a_topic_is_never_made_by_accident(kafka: LocalKafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    answer = admin.list_topics("mistyped", timeout=10).topics["mistyped"]
    assert answer.error is not None
    assert answer.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "mistyped" not in admin.list_topics(timeout=10).topics


def test_it_listens_on_loopback_only(kafka: LocalKafka) -> None:
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(kafka.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_the_topic_factory_sets_and_deletes(kafka: LocalKafka) -> None:
    factory = TopicFactory(kafka.bootstrap_servers)
    topic = factory("compacted", partitions=3, config={"cleanup.policy": "compact"})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    assert len(admin.list_topics(timeout=10).topics[topic].partitions) == 3
    factory.delete_all()
    deadline = time.monotonic() + 10
    while topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_data_cluster_and_port_outlive_a_stop_and_a_kill(own: LocalKafka) -> None:
    own.start()
    topics = TopicFactory(own.bootstrap_servers)
    topic, servers, cluster = topics(), own.bootstrap_servers, topics.cluster_id()
    send(own, topic, b"one")
    own.stop()
    assert own.process.returncode == 128 + signal.SIGTERM  # what Java ends with after a controlled shutdown
    assert not own.running
    own.start()
    send(own, topic, b"two")
    own.process.kill()
    own.start()
    assert own.bootstrap_servers == servers
    assert TopicFactory(servers).cluster_id() == cluster
    assert read(own, topic, 2) == [b"one", b"two"]


def test_a_start_that_fails_names_the_reason_and_leaves_nothing(
    own: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "server_properties", "process.roles={},{}\n".format)
    with pytest.raises(SetupError, match=r"format tool ended with 1, expected 0(.|\n)*process.roles"):
        own.start()
    assert not own.running
    monkeypatch.undo()
    with LocalKafka(own.directory) as next_one:
        assert next_one.running


def test_a_broker_that_ends_early_is_told_with_its_log(own: LocalKafka) -> None:
    own.start()
    own.stop()
    properties = own.directory / "kafka" / "data" / "meta.properties"
    properties.write_text(properties.read_text().replace("node.id=1", "node.id=2"))
    with pytest.raises(SetupError, match=r"Kafka ended with exit status 1 before it was ready(.|\n)*Stored node id 2"):
        own.start()
    assert not own.running


def test_a_second_broker_on_one_directory_is_refused(kafka: LocalKafka) -> None:
    with pytest.raises(SetupError, match=rf"is in use by the Kafka of process {os.getpid()}; stop that one"):
        LocalKafka(kafka.directory).start()
    with pytest.raises(SetupError, match=f"runs already as process {kafka.pid}"):
        kafka.start()
    assert kafka.running


def test_a_requested_port_in_use_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SetupError, match=rf"port {port} is in use by process {os.getpid()} "):
            LocalKafka(tmp_path, port=port).start()


def test_the_last_port_is_kept_while_it_is_free(own: LocalKafka) -> None:
    own.start()
    first = own.bootstrap_servers
    own.stop()
    with socket.create_server((ports.LOOPBACK, int(first.rsplit(":", 1)[1]))), own:
        second = own.bootstrap_servers
    assert second != first
    with own:
        assert own.bootstrap_servers == second


def test_a_requested_port_is_taken(own: LocalKafka) -> None:
    port = ports.find_free("a requested port")
    with LocalKafka(own.directory, port=port) as broker:
        assert broker.bootstrap_servers == f"127.0.0.1:{port}"


def test_what_was_never_started(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path)
    broker.stop()
    assert not broker.running
    for read_property in (lambda: broker.pid, lambda: broker.bootstrap_servers):
        with pytest.raises(SetupError, match="was never started"):
            read_property()


def test_the_start_is_recorded_for_later_starts(
    kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path / "cache"))
    jars = _link_jars(kafka, artifacts.cache_root())
    lines: list[str] = []
    with LocalKafka(tmp_path / "state", progress=lines.append) as broker:
        command = psutil.Process(broker.pid).cmdline()
    assert [line for line in lines if "fetch" in line] == []
    (archive,) = jars.glob("start-*.aot")
    assert f"-XX:AOTCache={archive}" in command


def test_a_recording_without_an_archive_is_an_error(kafka: LocalKafka, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Java wrote no archive"):
        kafka_module._record_start(tmp_path / "missing" / "archive.aot", heap_mb=384)


def test_a_silent_broker_is_not_ready() -> None:
    nobody = AdminClient({"bootstrap.servers": f"127.0.0.1:{ports.find_free('nobody')}", "log_level": 0})
    assert not kafka_module._serves(nobody)


def _link_jars(kafka: LocalKafka, cache: Path) -> Path:
    """The session's jars as a cache of the test's own, without its recording."""
    command = psutil.Process(kafka.pid).cmdline()
    source = Path(command[command.index("-cp") + 1].split(":")[0]).parent
    target = cache / source.name
    target.mkdir(parents=True)
    for jar in source.glob("*.jar"):
        os.link(jar, target / jar.name)
    return target
