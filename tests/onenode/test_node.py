"""A whole node from up to down, as root: a restricted pod, its log, and nothing left of it anywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from k2_core.errors import SetupError
from onenode import cluster, network
from onenode.cluster import Cluster
from onenode.node_config import PAUSE_IMAGE
from onenode.tools import tool
from support.lacking import needed

pytestmark = pytest.mark.cluster

NAME = "k2-test"
POD = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: strict, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: quiet, namespace: strict}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: {PAUSE_IMAGE}
      imagePullPolicy: Never
      securityContext:
        runAsNonRoot: true
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {{drop: [ALL]}}
        seccompProfile: {{type: RuntimeDefault}}
      volumeMounts: [{{name: tmp, mountPath: /tmp}}]
  volumes: [{{name: tmp, emptyDir: {{medium: Memory}}}}]
"""
"""With the token of its service account: a projected volume, which is a mount."""


def traces(directory: Path) -> list[str]:
    """What names the cluster: mounts, processes, control groups, sockets, links."""
    words = (str(directory), f"/run/k2/{NAME}", f"netns/{NAME}", f"k2-{NAME}")
    found = [line for line in Path("/proc/self/mounts").read_text().splitlines() if any(word in line for word in words)]
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        found += [command] if any(word in command for word in words) else []
    places = [Path("/run/netns") / NAME, Path("/run/k2") / NAME, directory]
    places += Path("/sys/fs/cgroup").glob(f"**/k2-{NAME}")
    links = Path("/var/log/containers")
    places += [link for link in links.glob("*") if str(directory) in str(link.readlink())] if links.is_dir() else []
    return found + [str(place) for place in places if place.exists() or place.is_symlink()]


def fixed_places(directory: Path) -> set[Path]:
    """What containerd's shims and the CNI library keep at places that cannot be configured, of this cluster alone."""
    bundles = Path("/run/k2", NAME, "containerd", "io.containerd.runtime.v2.task").glob("*/*/address")
    results = [path for path in Path("/var/lib/cni/results").glob("k2-*") if names(path, str(directory))]
    return {Path(bundle.read_text().removeprefix("unix://")) for bundle in bundles} | set(results)


def names(result: Path, directory: str) -> bool:
    try:
        return directory in base64.b64decode(json.loads(result.read_text())["config"]).decode()
    except (FileNotFoundError, ValueError):  # another cluster's, being removed or written
        return False


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("needs root for a node")
    with needed("a node"):
        started = cluster.up(tmp_path_factory.mktemp("node") / "cluster", NAME)
    yield started
    if Path(started.dir).exists():
        cluster.down(Path(started.dir))


def kubectl(node: Cluster, *arguments: str, stdin: str | None = None) -> str:
    command = [*node.enter, str(tool("kubectl")), f"--kubeconfig={node.kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_restricted_pod_runs_answers_for_its_log_and_leaves_nothing(node: Cluster) -> None:
    kubectl(node, "apply", "--filename=-", stdin=POD)
    kubectl(node, "--namespace=strict", "wait", "--for=condition=Ready", "--timeout=150s", "pod/quiet")
    assert kubectl(node, "--namespace=strict", "logs", "quiet") == ""
    kept = fixed_places(Path(node.dir))
    assert {path.parent for path in kept} == {Path("/run/containerd/s"), Path("/var/lib/cni/results")}
    assert any("projected" in line for line in traces(Path(node.dir)))
    cluster.down(Path(node.dir))
    assert traces(Path(node.dir)) == []
    assert [path for path in kept if path.exists()] == []


def test_a_second_one_of_this_name_is_refused(tmp_path: Path, node: Cluster) -> None:
    if not network.exists(NAME):  # the test before has taken it down: any namespace will do
        subprocess.run(["ip", "netns", "add", NAME], check=True, timeout=30)
    try:
        with pytest.raises(SetupError, match=f"found a network namespace '{NAME}' already"):
            cluster.up(tmp_path / "second", NAME)
    finally:
        if not Path(node.dir).exists():
            network.remove(NAME)
    assert not (tmp_path / "second").exists()
