"""A cluster by kind, where Docker's engine and kind are there: the same for whoever uses it.

Called by `onenode.cluster`. What the cluster is made of stands in manifests/kind.yaml.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError

CONFIG: Final = Path(__file__).parents[2] / "manifests" / "kind.yaml"
_PROBE_TIMEOUT_S: Final = 5.0
_TIMEOUT_S: Final = 900.0


def usable() -> bool:
    """Whether kind is on PATH and Docker's engine answers."""
    if shutil.which("kind") is None or shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def create(name: str, kubeconfig: Path) -> None:
    """Create a cluster and write its kubeconfig.

    Raises:
        SetupError: kind could not.
    """
    command = ["kind", "create", "cluster", "--name", name, "--config", str(CONFIG), "--kubeconfig", str(kubeconfig)]
    _run([*command, "--wait", "5m"])
    kubeconfig.chmod(0o600)


def delete(name: str, kubeconfig: Path) -> None:
    """Delete a cluster.

    Raises:
        SetupError: kind could not.
    """
    _run(["kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)])


def load(name: str, archive: Path) -> None:
    """Give an image to the cluster's nodes.

    Raises:
        SetupError: kind could not.
    """
    _run(["kind", "load", "image-archive", str(archive), "--name", name])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(command[:3])}` failed: {done.stderr.strip()[-800:]}")
