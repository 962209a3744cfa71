"""How a process ends: status and last line, for people and for Kubernetes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from k2_core.errors import K2Error, KafkaUnavailableError, SchemaError, SetupError, SpecError, StateError
from k2_core.exits import MAX_MESSAGE_BYTES, MESSAGE_PATH, exit_status, last_word


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SpecError("K2_X", "a", "b"), 2),
        (KafkaUnavailableError("away"), 3),
        (SetupError("port"), 3),
        (SchemaError("other"), 3),
        (StateError("rolled back: `k2 adopt`"), 5),
    ],
    ids=["spec", "kafka", "setup", "schema", "state"],
)
def test_statuses(error: K2Error, expected: int) -> None:
    assert exit_status(error) == expected


def test_the_line_is_where_kubernetes_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    message = tmp_path / "termination-log"
    monkeypatch.setenv(MESSAGE_PATH, str(message))
    assert last_word("k2-sink", KafkaUnavailableError("found none,\nexpected one")) == 3
    assert message.read_text() == "k2-sink: found none, expected one"
    assert "expected one" in caplog.text


def test_a_long_line_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = tmp_path / "termination-log"
    monkeypatch.setenv(MESSAGE_PATH, str(message))
    last_word("k2-sink", SetupError("x" * 10_000))
    assert message.stat().st_size == MAX_MESSAGE_BYTES


def test_a_place_that_takes_nothing_does_not_change_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MESSAGE_PATH, str(tmp_path / "nowhere" / "log"))
    assert last_word("k2-sink", SpecError("K2_X", "a", "b")) == 2
    assert "termination message was not written" in caplog.text


def test_before_there_is_a_log_it_is_one_line_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.delenv(MESSAGE_PATH, raising=False)
    assert last_word("k2-query", SpecError("K2_X", "a", "b")) == 2
    assert capsys.readouterr().err == "k2-query: K2_X: found a, expected b\n"
