from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.kafka_config import server_properties
from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.engine_report import EngineWord
from k2_core.service_report import ServiceReport
from k2_core.sink_report import SinkReport
from k2_core.spec import KafkaSpec, SecretKeyRef
from k2_core.symbols_report import UNKNOWN, SymbolsWord
from k2_core.types import Offset, Partition, TopicName
from k2_operator.signals import Question
from k2_operator.topics import Topics, kafka_settings, look
from support.kafka import TopicFactory, start_or_skip
from support.lacking import needed
from support.secure_kafka import MECHANISM, SHIBBOLETH, USER, SecureKafka

pytestmark = pytest.mark.kafka

REF = SecretKeyRef(name="s", key="k")


@pytest.fixture
def question(kafka: LocalKafka) -> Iterator[Question]:
    """A question about a topic of the test's own."""
    name = TopicName(f"look_{uuid.uuid4().hex[:8]}")
    spec = KafkaSpec(bootstrap_servers=kafka.bootstrap_servers, replication_factor=1)
    yield Question("ns", spec, (name,), {name: 2}, f"{name}.read", f"{name}.committed", {})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    if name in admin.list_topics(timeout=20).topics:
        admin.delete_topics([name])[name].result(20)


def client(question: Question) -> Topics:
    return Topics(kafka_settings(question.kafka, {}, None))


def test_a_missing_topic_is_made_only_where_that_is_asked_for(question: Question) -> None:
    [name] = question.topics
    found = look(client(question), replace(question, create=False))
    assert (found.partitions, found.kafka_problem, found.topics_problem) == ({}, None, None)
    found = look(client(question), question)
    assert found.partitions == {name: 2}
    assert found.log is not None
    assert (found.log.unread, found.log.uncommitted, found.log.committed_at) == (0, 0, None)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param({}, 0, id="sinks that say nothing"),
        pytest.param({0: SinkReport("a", NOW, deferred=3), 1: SinkReport("a", NOW, deferred=3)}, 3, id="one sink"),
        pytest.param({0: SinkReport("a", NOW, deferred=3), 1: SinkReport("b", NOW, deferred=4)}, 7, id="two sinks"),
        pytest.param({0: SinkReport("a", NOW - timedelta(seconds=1))}, None, id="one that has committed since"),
        pytest.param({1: SinkReport("a", NOW - timedelta(hours=1), deferred=2)}, 2, id="one that has not"),
    ],
)
def test_what_sinks_owe(question: Question, reports: dict[int, SinkReport], expected: int | None) -> None:
    [name] = question.topics
    topics = client(question)
    look(topics, question)
    said = {(name, Partition(number)): (Offset(0), one.dump()) for number, one in reports.items()}
    if said:
        topics.write_group_signals(question.sink_group, said).result(20)
    committed = {(name, Partition(0)): (Offset(0), CommitSignal(NOW, None).dump())}
    topics.write_group_signals(question.committed_group, committed).result(20)
    found = look(topics, question).log
    assert found is not None
    assert (found.owed, found.committed_at) == (expected, NOW)


PROBLEM = "Trino at https://trino: found the credentials refused, expected them to open it; check user and secret"


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param({}, None, id="nobody has said anything"),
        pytest.param({0: (0, None), 1: (3, None)}, EngineWord(answers=True), id="it answers"),
        pytest.param(
            {0: (0, None), 1: (3, PROBLEM)},
            EngineWord(answers=False, reason="Refused", message=f"1 of 2 query pods: {PROBLEM}"),
            id="one has no answer",
        ),
        pytest.param({0: (0, None), 1: (3600, PROBLEM)}, EngineWord(answers=True), id="one has gone"),
        pytest.param({0: (3600, None)}, None, id="all have gone"),
    ],
)
def test_what_query_services_say_of_trino(
    question: Question, reports: dict[int, tuple[int, str | None]], expected: EngineWord | None
) -> None:
    [name] = question.topics
    topics, now = client(question), datetime.now(UTC)
    asked = replace(question, engine_group=f"{name}.engine")
    look(topics, asked)
    said = {
        (name, Partition(number)): (
            Offset(0),
            ServiceReport(
                f"pod-{number}", now - timedelta(seconds=ago_s), "Refused" if problem else "Answers", problem
            ).dump(),
        )
        for number, (ago_s, problem) in reports.items()
    }
    if said:
        topics.write_group_signals(f"{name}.engine", said).result(20)
    found = look(topics, asked).log
    assert found is not None
    assert found.engine == expected
    unasked = look(topics, question).log
    assert unasked is not None
    assert unasked.engine is None


def test_what_ingests_say_of_symbols(question: Question) -> None:
    [name] = question.topics
    topics, now = client(question), datetime.now(UTC)
    asked = replace(question, symbols_group=f"{name}.symbols")
    look(topics, asked)
    reports = [ServiceReport("a", now, "Known"), ServiceReport("b", now, UNKNOWN, "source b: found BTCUSDX")]
    said = {(name, Partition(number)): (Offset(0), one.dump()) for number, one in enumerate(reports)}
    topics.write_group_signals(f"{name}.symbols", said).result(20)
    known, unasked = look(topics, asked).log, look(topics, question).log
    assert known is not None
    assert known.symbols == SymbolsWord(known=False, reason=UNKNOWN, message="source b: found BTCUSDX")
    assert unasked is not None
    assert unasked.symbols is None


def test_a_group_that_kafka_keeps_from_the_operator_leaves_the_rest_known(tmp_path: Path) -> None:
    broker = SecureKafka(tmp_path)
    with needed("a Kafka with TLS and passwords"):
        broker.start()
    try:
        topics = Topics(
            ServiceSettings(
                kafka_bootstrap_servers=broker.bootstrap_servers,
                kafka_replication_factor=1,
                kafka_security_protocol="SASL_SSL",
                kafka_ca_file=broker.ca_file,
                kafka_sasl_mechanism=MECHANISM,
                kafka_sasl_username=USER,
                kafka_sasl_password=SecretStr(SHIBBOLETH),
            )
        )
        name, spec = TopicName("kept"), KafkaSpec(bootstrap_servers=broker.bootstrap_servers)
        asked = Question("ns", spec, (name,), {name: 1}, "read", "committed", {}, engine_group="engine")
        look(topics, asked)
        word = ServiceReport("pod", datetime.now(UTC), "Answers").dump()
        topics.write_group_signals("engine", {(name, Partition(0)): (Offset(0), word)}).result(20)
        known = look(topics, asked).log
        assert known is not None
        assert known.engine == EngineWord(answers=True)
        denied = AclBinding(
            ResourceType.GROUP,
            "engine",
            ResourcePatternType.LITERAL,
            f"User:{USER}",
            "*",
            AclOperation.DESCRIBE,
            AclPermissionType.DENY,
        )
        topics._client.create_acls([denied])[denied].result(20)
        deadline_s = time.monotonic() + 30
        while (log := (found := look(topics, asked)).log) is None or log.engine is not None:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert (found.kafka_problem, log.unread, log.ends) == (None, 0, {(name, 0): 0})
    finally:
        broker.stop()


def test_topics_that_are_to_go_are_deleted_and_a_second_time_is_no_fault(
    question: Question, topic_factory: TopicFactory
) -> None:
    [name] = question.topics
    kept = TopicName(topic_factory())
    both = replace(question, topics={name: 2, kept: 1}, create=False)
    look(client(question), question)
    found = look(client(question), both)
    assert found.partitions == {name: 2, kept: 1}
    assert len(set(found.ids.values())) == 2
    going = replace(both, remove=(name,))
    deadline_s = time.monotonic() + 30
    while (gone := look(client(question), going)).partitions != {kept: 1}:  # brokers hear of it a moment later
        assert time.monotonic() < deadline_s
    assert (gone.ids, gone.kafka_problem, gone.topics_problem) == ({kept: found.ids[kept]}, None, None)
    assert look(client(question), going) == gone


def test_a_topic_that_may_not_be_deleted_is_told_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hoarding(*ports: int) -> str:
        return f"{server_properties(*ports)}\ndelete.topic.enable=false\n"

    monkeypatch.setattr("k2_cli.stack.kafka.server_properties", hoarding)
    broker = LocalKafka(tmp_path)
    start_or_skip(broker)
    try:
        name, spec = TopicName("kept"), KafkaSpec(bootstrap_servers=broker.bootstrap_servers, replication_factor=1)
        asked = Question("ns", spec, (name,), {name: 1}, "read", "committed", {})
        topics = client(asked)
        look(topics, asked)
        found = look(topics, replace(asked, create=False, remove=(name,)))
        assert found.topics_problem is not None
        assert found.topics_problem.startswith("topic kept: Kafka refused: ")
        assert "deletion" in found.topics_problem
        assert (found.partitions, found.kafka_problem) == ({name: 1}, None)
    finally:
        broker.stop()


def test_a_small_topic_grows_only_where_that_is_asked_for(question: Question) -> None:
    [name] = question.topics
    look(client(question), question)
    wider = replace(question, topics={name: 4})
    assert look(client(question), wider).partitions == {name: 2}
    found = look(client(question), replace(wider, grow=True))
    assert found.partitions in ({name: 4}, {name: 2})  # brokers hear of it a moment later
    assert found.topics_problem is None


def test_a_topic_that_kafka_refuses_is_told_in_its_words(question: Question) -> None:
    three = KafkaSpec(bootstrap_servers=question.kafka.bootstrap_servers, replication_factor=3)
    found = look(client(replace(question, kafka=three)), replace(question, kafka=three))
    assert found.kafka_problem is None
    assert "replication" in str(found.topics_problem).lower()


def test_a_kafka_that_does_not_answer_is_told_in_the_clients_words(question: Question) -> None:
    away = replace(question, kafka=KafkaSpec(bootstrap_servers="127.0.0.1:1"))
    found = look(client(away), away)
    assert (found.partitions, found.log) == (None, None)
    assert found.kafka_problem


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({}, "PLAINTEXT", id="plain"),
        pytest.param({"tls": {}}, "SSL", id="TLS"),
        pytest.param({"tls": {"enabled": False}}, "PLAINTEXT", id="TLS off"),
    ],
)
def test_the_protocol_follows_from_the_spec(more: dict[str, object], expected: str) -> None:
    spec = KafkaSpec.model_validate({"bootstrapServers": "k:1"} | more)
    assert kafka_settings(spec, {}, None).kafka_security_protocol == expected


def test_a_login_comes_from_the_secrets_and_the_ca_from_its_file(tmp_path: Path) -> None:
    ref = REF.model_dump(by_alias=True)
    sasl = {"mechanism": "SCRAM-SHA-512", "usernameSecret": ref, "passwordSecret": ref}
    spec = KafkaSpec.model_validate({"bootstrapServers": "k:1", "tls": {"caSecret": ref}, "sasl": sasl})
    values = {"spec.kafka.sasl.usernameSecret": b"user", "spec.kafka.sasl.passwordSecret": b"hunter"}
    found = kafka_settings(spec, values, tmp_path / "ca.pem")
    assert found.kafka_security_protocol == "SASL_SSL"
    assert found.kafka_ca_file == tmp_path / "ca.pem"
    assert str(found.kafka_sasl_username) == "user"
    assert "hunter" not in repr(found)
