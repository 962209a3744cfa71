"""A control plane from up to down: real, verified, and gone without a trace."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from k2_core.errors import SetupError
from onenode import cluster
from onenode import control_plane as planes
from onenode.processes import Command, Processes
from support.cluster import ControlPlaneHandle, start_or_skip

POD = """
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: default}
spec: {containers: [{name: main, image: any}]}
"""


def own_processes(directory: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(directory) in command:
            found.append(command)
    return found


def test_it_answers_over_verified_tls_and_admits_pods(control_plane: ControlPlaneHandle) -> None:
    done = control_plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=POD)
    assert done.returncode == 0, done.stderr


def test_pod_security_is_enforced(control_plane: ControlPlaneHandle) -> None:
    made = control_plane.kubectl("create", "namespace", "strict")
    assert made.returncode == 0, made.stderr
    control_plane.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    bare = POD.replace("default", "strict")
    done = control_plane.kubectl("create", "--namespace=strict", "--dry-run=server", "-f", "-", stdin=bare)
    assert 'violates PodSecurity "restricted' in done.stderr


def test_the_kubeconfig_is_its_owners_alone(control_plane: ControlPlaneHandle) -> None:
    assert stat.S_IMODE(control_plane.kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE(control_plane.directory.stat().st_mode) == 0o700
    keys = [path for path in control_plane.directory.rglob("*.key") if stat.S_IMODE(path.stat().st_mode) != 0o600]
    assert keys == []


def test_nobody_is_let_in_without_a_certificate(control_plane: ControlPlaneHandle) -> None:
    raw = subprocess.run(
        ["curl", "-sS", "--cacert", control_plane.directory / "pki/ca.crt", f"{control_plane.server}/version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert json.loads(raw.stdout)["code"] == 401


def test_down_leaves_neither_process_nor_folder(control_plane: ControlPlaneHandle, tmp_path: Path) -> None:
    directory = tmp_path / "second"
    handle = start_or_skip(directory)
    assert len(own_processes(directory)) == 3
    assert handle.server != control_plane.server
    with pytest.raises(SetupError, match="found a cluster in"):
        cluster.up_control_plane(directory)
    cluster.down(directory)
    assert own_processes(directory) == []
    assert not directory.exists()


def test_a_failed_start_leaves_nothing_and_shows_the_log(
    control_plane: ControlPlaneHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "SERVICE_RANGE", "no range")
    directory = tmp_path / "broken"
    with pytest.raises(SetupError, match=r"(?s)kube-apiserver ended before it was ready; .*service-cluster-ip-range"):
        cluster.up_control_plane(directory, bound=True)
    assert own_processes(directory) == []
    assert not directory.exists()


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(SetupError, match="expected an empty or no folder"):
        cluster.up_control_plane(tmp_path)
    with pytest.raises(SetupError, match="found no cluster in"):
        cluster.down(tmp_path)
    assert (tmp_path / "precious").exists()


def test_down_ends_what_is_recorded_also_after_some_have_died(tmp_path: Path) -> None:
    directory = tmp_path / "half"
    cluster.claim(directory)
    cluster.Cluster(str(directory), "", "").save()
    processes = Processes(directory)
    processes.start(Command("a", ["sleep", "60"]))
    processes.start(Command("b", ["sh", "-c", "exit 0"]))
    cluster.down(directory)
    assert not directory.exists()
