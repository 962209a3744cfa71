from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from k2_core.errors import SpecError
from k2_operator.render import render_files
from support.operator import DATA

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "k2_operator", *arguments]
    environment = os.environ | {"K2_OPERATOR_CONFIG": "/nowhere/operator.yaml"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_command_prints_yaml_without_a_cluster() -> None:
    done = run("render", "-f", str(DATA / "pipeline.yaml"), "--config", str(DATA / "operator.yaml"))
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(list(yaml.safe_load_all(done.stdout))) == 20
    assert "&id" not in done.stdout


def test_the_default_configuration_needs_a_pipeline_that_names_everything() -> None:
    done = run("render", "-f", str(ROOT / "manifests/pipeline.yaml"))
    assert done.returncode == 2
    assert "spec.kafka" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[1]", "a document of type list", id="no mapping"),
        pytest.param("a: [", "readable YAML", id="no YAML"),
        pytest.param("kind: Pod", "expected", id="another kind"),
    ],
)
def test_what_is_no_pipeline_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=expected):
        render_files([file], None)


def test_several_files_make_one_stream(tmp_path: Path) -> None:
    text = render_files([DATA / "pipeline.yaml", DATA / "pipeline.yaml"], DATA / "operator.yaml")
    assert len(list(yaml.safe_load_all(text))) == 40
