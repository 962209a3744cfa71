"""Exit codes of `python -m k2_ingest`, for what needs no broker. The rest is in test_service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_ingest.__main__ import main
from support.ingest import Workspace


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put the handlers back that `main` replaces."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_no_kafka_at_the_start_is_one_line_and_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("k2_core.kafka.ADMIN_TIMEOUT_S", 0.3)
    monkeypatch.setenv("K2_PIPELINE_FILE", str(Workspace("", tmp_path).pipeline_file()))
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    assert main() == 3
    assert "answer" in capfd.readouterr().err.splitlines()[-1]


def test_a_missing_pipeline_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("K2_PIPELINE_FILE", "/nowhere.yaml")
    assert main() == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "/nowhere.yaml" in line
