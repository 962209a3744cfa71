from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from k2_core.spec import KafkaSpec
from k2_operator.kafkas import AT_ONCE, FIRST_BACKOFF_S, IDLE_S, LONGEST_BACKOFF_S, Kafkas

PLAIN = KafkaSpec(bootstrap_servers="127.0.0.1:1")
CA = "spec.kafka.tls.caSecret"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_pipelines_with_one_login_share_a_kafka() -> None:
    kafkas = Kafkas()
    one = kafkas.of(PLAIN, {})
    assert kafkas.of(PLAIN, {"spec.storage.s3.accessKeySecret": b"theirs"}) is one
    assert kafkas.of(PLAIN, {"spec.kafka.sasl.passwordSecret": b"other"}) is not one
    assert kafkas.of(KafkaSpec(bootstrap_servers="127.0.0.1:2"), {}) is not one
    kafkas.close()


def test_one_that_nobody_asks_is_dropped() -> None:
    clock = Clock()
    kafkas = Kafkas(clock)
    one, other = kafkas.of(PLAIN, {}), KafkaSpec(bootstrap_servers="127.0.0.1:2")
    clock.now_s = IDLE_S - 1
    kafkas.of(other, {})
    assert kafkas.of(PLAIN, {}) is one
    clock.now_s = IDLE_S
    kafkas.of(other, {})
    assert kafkas.of(PLAIN, {}) is not one
    kafkas.close()


def test_one_that_does_not_answer_is_asked_less_and_less_often() -> None:
    kafkas = Kafkas()
    one = kafkas.of(PLAIN, {})
    pauses_s = []
    for _ in range(8):
        one.answered("no answer", 100.0)
        pauses_s.append(one.closed_until_s - 100)
    assert pauses_s[:3] == [FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S]
    assert pauses_s[-1] == LONGEST_BACKOFF_S
    assert str(one.problem) == "no answer"
    one.answered(None, 200.0)
    assert (one.problem, one.used_s, one.backoff_s) == (None, 200.0, FIRST_BACKOFF_S)
    kafkas.close()


def test_controllers_share_its_clients() -> None:
    kafkas = Kafkas()
    one = kafkas.of(PLAIN, {})
    assert one.producer() is one.producer()
    assert one.control() is one.control()
    readers = {id(one.ages(f"p{number}")) for number in range(50)}
    assert len(readers) == AT_ONCE
    assert one.ages("p1") is one.ages("p1")
    kafkas.close()


def test_a_ca_is_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kafkas = Kafkas()
    kafkas.of(PLAIN, {})
    assert not list(tmp_path.iterdir())  # an operator that is killed leaves none behind
    file = kafkas.of(PLAIN, {CA: b"pem"}).settings.kafka_ca_file
    assert file is not None
    assert file.read_bytes() == b"pem"
    assert kafkas.of(PLAIN, {}).settings.kafka_ca_file is None
    kafkas.close()
    assert not file.exists()
