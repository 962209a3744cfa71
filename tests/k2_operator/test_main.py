"""The exit codes of the process, and what it says when it does not start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.cluster import ControlPlaneHandle
from support.operated import Operated, moved


def started(config: Path, kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"K2_OPERATOR_CONFIG": str(config), "KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "k2_operator"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def configured(folder: Path) -> Path:
    file = folder / "operator.yaml"
    file.write_text("listenHost: 127.0.0.1\nmetricsPort: 0\n")
    return file


def test_a_wrong_configuration_is_2(tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    file.write_text("imagez: {}")
    done = started(file, tmp_path / "none")
    assert done.returncode == 2
    assert "imagez" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_cluster_is_3(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("{}")
    done = started(configured(tmp_path), tmp_path / "none")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_an_api_server_that_does_not_answer_is_3(control_plane: ControlPlaneHandle, tmp_path: Path) -> None:
    nowhere = moved(control_plane.kubeconfig, tmp_path / "kubeconfig", "https://127.0.0.1:1")
    done = started(configured(tmp_path), nowhere)
    assert done.returncode == 3
    assert "expected an answer" in done.stderr


@pytest.mark.kafka
def test_sigterm_is_0(operated: Operated) -> None:
    process = operated.start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0
    assert '"message": "stopped"' in operated.log()
