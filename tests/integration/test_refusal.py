"""A sink that refuses to go on, seen from `k2 up`: it stops at once, names the command, and that command helps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import TOPIC, TOPIC_ID, Lake, k2

pytestmark = pytest.mark.kafka
PATIENCE_S = 180


def test_k2_up_stops_at_once_with_the_command_to_run(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "k2")
    lake.commit([10, 11])  # as if from another cluster: the folder's Kafka is made when it is first started
    folder = lake.folder.root
    command = [sys.executable, "-m", "k2_cli", "up", "-f", str(lake.folder.pipeline_file), "--dir", str(folder)]
    command += ["--synthetic"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 5, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("k2: sink-0 refuses to go on: Kafka cluster: found ")
    assert last.endswith(f"`k2 adopt-topic {TOPIC} --dir {folder}`")
    assert "starting it again" not in ended.stderr
    adopted = k2("adopt-topic", TOPIC, "--dir", folder, "--yes", "--json")
    assert adopted.code == 0, adopted.err
    assert not lake.folder.in_use()
    found = k2("audit", "--dir", folder, "--json")
    assert (found.code, found.document["rows"]) == (0, 2)
    assert {loss["id"] for loss in found.document["losses"] if loss["to"] is None} == {TOPIC_ID}
