"""A real API server for tests: etcd, kube-apiserver and controller-manager on loopback, without a node.

The fixture `control_plane` of tests/conftest.py lasts a session, so tests make namespaces or names of their own in it.
Made by the same code as `hack/cluster up --control-plane-only`; its processes die with pytest, however that ends.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from onenode import cluster
from onenode.tools import tool
from support.lacking import needed

_KUBECTL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ControlPlaneHandle:
    """A running control plane.

    Args:
        directory: Its folder.
        kubeconfig: The administrator's.
        server: URL of the API server.
    """

    directory: Path
    kubeconfig: Path
    server: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; the caller looks at status and output."""
        return subprocess.run(
            [str(tool("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_KUBECTL_TIMEOUT_S,
            check=False,
        )


def start_or_skip(directory: Path) -> ControlPlaneHandle:
    """Start a control plane; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("a Kubernetes control plane"):
        started = cluster.up_control_plane(directory, bound=True)
    return ControlPlaneHandle(Path(started.dir), Path(started.kubeconfig), started.api_server)
