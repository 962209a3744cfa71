from __future__ import annotations

from pathlib import Path

import pytest

from k2_core.errors import SpecError
from k2_operator.config import OperatorConfig, load_config
from support.operator import operator_config


def test_the_file_is_read() -> None:
    config = operator_config()
    assert config.images.sink == "registry.example/k2-sink:0.1.0"
    assert config.defaults.kafka is not None
    assert config.defaults.kafka.replication_factor == 1
    assert config.resync_seconds == 5


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "operator.yaml").write_text("")
    assert load_config(tmp_path / "operator.yaml") == OperatorConfig()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("resyncSeconds: 0", "resyncSeconds: found 0", id="out of range"),
        pytest.param("imagez: {}", "imagez", id="unknown key"),
        pytest.param("a: [", "readable YAML", id="no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_field(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "operator.yaml").write_text(text)
    with pytest.raises(SpecError, match=expected):
        load_config(tmp_path / "operator.yaml")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="readable YAML file"):
        load_config(tmp_path / "operator.yaml")
