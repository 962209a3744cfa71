"""What is made from the chart is in step with it: README, schema, manifests/install.yaml, golden manifests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from derived.__main__ import ROOT, artifacts, difference
from support.chart import tool


@pytest.mark.parametrize("name", artifacts())
def test_it_is_in_step_with_the_chart(name: str) -> None:
    tool("helm-docs" if name == "readme" else "helm")
    found = difference(artifacts()[name])
    assert found == "", f"run hack/render {name}, look at what changed and commit it:\n{found}"


def test_each_golden_manifest_belongs_to_values() -> None:
    made = {artifact.path for artifact in artifacts().values()}
    assert set((ROOT / "tests/chart/golden").iterdir()) - made == set()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "derived", "--check", "golden"],
        cwd=ROOT / "hack",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "found golden, expected any of schema, readme, install" in done.stderr
