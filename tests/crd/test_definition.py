"""The definition that ships: in step with the model, small enough, and what `kubectl get` shows leads somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from crds import definition as module
from crds.definition import COLUMNS, FILE, definition

LARGEST_BYTES: Final = 262_144
"""Of all annotations together: a client-side `kubectl apply` keeps the whole document, as JSON, in one."""
SCHEMA: Final[dict[str, Any]] = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_the_file_is_in_step_with_the_model() -> None:
    assert FILE.read_text() == module.rendered(), "run hack/crd"


def test_it_is_far_below_the_limit_of_an_annotation() -> None:
    assert len(json.dumps(definition())) < LARGEST_BYTES / 4


class TestCommand:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        hack = Path(module.__file__).parents[1]
        command = [sys.executable, "-m", "crds.definition", *arguments]
        return subprocess.run(command, cwd=hack, capture_output=True, text=True, timeout=60, check=False)

    def test_check_says_nothing_where_all_is_well(self) -> None:
        done = self.run("--check")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_it_writes_and_finds_what_is_out_of_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(module, "FILE", tmp_path / "crd.yaml")
        assert module.main(["--check"]) == 1
        assert "run hack/crd" in capsys.readouterr().err
        assert module.main([]) == 0
        assert module.main(["--check"]) == 0
        module.FILE.write_text(module.FILE.read_text().replace("default: market", "default: markets"))
        assert module.main(["--check"]) == 1


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column[0])
def test_columns_show_fields_of_their_type(column: tuple[str, str, str, int, str]) -> None:
    _, kind, path, _, _ = column
    if path.startswith(".metadata"):
        return
    node = SCHEMA
    for part in re.sub(r"\[[^\]]*\]", ".[]", path).strip(".").split("."):
        node = node["items"] if part == "[]" else node["properties"][part]
    assert kind == ("date" if node.get("format") == "date-time" else node["type"])


def test_nothing_selects_pods_for_another_autoscaler() -> None:
    scale = definition()["spec"]["versions"][0]["subresources"]["scale"]
    assert "labelSelectorPath" not in scale
