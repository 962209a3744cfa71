"""Where commands find a pipeline's Kafka, and what they say when it does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli.kafka_site import kafka_site
from k2_core.errors import KafkaUnavailableError, SetupError
from support.cli import Lake


def test_the_variables_of_services_win_with_a_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", "broker:9092")
    pipeline, settings = kafka_site(lake.folder.root, lake.folder.pipeline_file)
    assert settings.kafka_bootstrap_servers == "broker:9092"
    assert pipeline == lake.pipeline


def test_a_folder_on_which_nothing_runs(lake: Lake) -> None:
    with pytest.raises(KafkaUnavailableError, match="found nothing running, expected `k2 up` on this folder"):
        kafka_site(lake.folder.root)


def test_a_folder_without_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        kafka_site(tmp_path / "none")
