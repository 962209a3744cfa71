"""`k2 validate`: all faults at once, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from support.cli import k2

VALID: Final = """
apiVersion: k2.dev/v1alpha1
kind: K2Pipeline
metadata: {name: trades}
spec:
  ingestion: [{name: binance, venue: binance, symbols: [{name: BTCUSDT}]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(VALID)
    return path


def test_a_pipeline(file: Path) -> None:
    answer = k2("validate", "-f", file)
    assert (answer.code, answer.out, answer.err) == (0, f"{file}: valid\n", "")


def test_what_has_no_effect_yet_is_said(file: Path) -> None:
    file.write_text(VALID + "  maintenance: {schedule: '0 3 * * *'}\n")
    answer = k2("validate", "-f", file)
    assert (answer.code, answer.out.splitlines()[1:]) == (0, [f"{file}: spec.maintenance.schedule has no effect yet"])


def test_each_fault_is_a_line(file: Path) -> None:
    file.write_text(VALID + "  sink: {replicas: 0}\n  query: {prt: 1}\n")
    answer = k2("validate", "-f", file)
    assert answer.code == 2
    assert answer.out.splitlines() == [
        f"{file}: spec.sink.replicas: found 0, expected greater than or equal to 1",
        f"{file}: spec.query.prt: found an unknown key, expected only keys that the resource has",
    ]


def test_json(file: Path) -> None:
    assert k2("validate", "-f", file, "--json").document == {
        "file": str(file),
        "valid": True,
        "faults": [],
        "inactive": [],
    }
    file.write_text(VALID + "  sink: {replicas: 0}\n")
    answer = k2("validate", "-f", file, "--json")
    assert answer.code == 2
    fault = {"path": "spec.sink.replicas", "found": "0", "expected": "greater than or equal to 1"}
    assert (answer.document["valid"], answer.document["faults"]) == (False, [fault])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    answer = k2("validate", "-f", tmp_path / "none.yaml", "--json")
    assert answer.code == 2
    assert "none.yaml" in answer.document["faults"][0]["found"]
