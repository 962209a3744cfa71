"""The node beside the control plane: containerd, kubelet, kube-proxy, scheduler and coredns in one network namespace.

Owns `Node`. Called by `onenode.cluster`, as root. It installs nothing by itself: `onenode.tools` does.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError
from onenode import cgroups, network, node_config
from onenode.catalog import read_catalog
from onenode.control_plane import KUBECONFIG, ControlPlane, Probe
from onenode.node_config import Places
from onenode.oci import write_image
from onenode.processes import Command, Processes
from onenode.tools import Say, ensure_debian, say_on_stderr, tool

NEEDED_PACKAGES: Final = ("etcd", "containerd", "runc", "cni", "conntrack", "iptables", "iproute", "nsenter", "openssl")
NEEDED_TOOLS: Final = ("kubelet", "kubectl", "coredns", "pause")
_START_TIMEOUT_S: Final = 120.0
"""10 s on an idle machine of two cores."""
_COMMAND_TIMEOUT_S: Final = 120.0
_LOAD_TIMEOUT_S: Final = 900.0
"""A gigabyte is written twice: as it comes and unpacked."""
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure_programs(say: Say = say_on_stderr) -> None:
    """Have everything that a node needs, before anything is started.

    Raises:
        SetupError: Something cannot be had.
    """
    catalog = read_catalog()
    ensure_debian([catalog[name] for name in NEEDED_PACKAGES], say)
    for name in NEEDED_TOOLS:
        tool(name, say)


def places(home: Path, name: str) -> Places:
    """Where the files of a cluster's node lie."""
    return Places(home, Path("/run/k2") / name, tool("ptp").parent, f"k2-{name}")


def probe(processes: Processes) -> Probe:
    """A check whether the API server answers a path, asked from inside the namespace."""
    return lambda path: _get(processes, f"--raw={path}") is not None


def _get(processes: Processes, *arguments: str) -> str | None:
    """What `kubectl get` prints, or None if it fails."""
    options = [f"--kubeconfig={processes.directory / KUBECONFIG}", "--request-timeout=2s"]
    command = [*processes.enter, str(tool("kubectl")), *options, "get", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    return done.stdout if done.returncode == 0 else None


def load_image(places: Places, archive: Path) -> None:
    """Import an OCI archive, so that pods can use its images.

    Raises:
        SetupError: containerd does not take it.
    """
    run([*_ctr(places), "images", "import", str(archive)], timeout_s=_LOAD_TIMEOUT_S)


def _ctr(places: Places) -> list[str]:
    """Containerd's client for the kubelet's images and containers."""
    return [str(tool("ctr")), f"--address={places.containerd_socket}", "--namespace=k8s.io"]


def run(command: Sequence[str], stdin: str | None = None, *, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
    """Run a command and return what it prints.

    Raises:
        SetupError: It failed, with what it said, or took longer than `timeout_s`.
    """
    shown = " ".join(command[:6])
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise SetupError(f"`{shown}` took more than {timeout_s:g} s; is the machine overloaded?") from None
    if done.returncode != 0:
        raise SetupError(f"`{shown}` failed: {done.stderr.strip()[-800:]}")
    return done.stdout


class Node:
    """One node.

    Args:
        name: Of the node, its network namespace and its control group.
        plane: The control plane that it joins.
        processes: Starts commands inside the namespace.
        say: Told about every step that takes seconds.
    """

    def __init__(self, name: str, plane: ControlPlane, processes: Processes, *, say: Say = say_on_stderr) -> None:
        self._name = name
        self._plane = plane
        self._processes = processes
        self._say = say
        self._home = processes.directory
        self._places = places(self._home, name)

    def start_containerd(self) -> None:
        """Start containerd and give it the pause image.

        Raises:
            SetupError: It did not start.
        """
        config = self._write("containerd.toml", node_config.containerd(self._places))
        self._write("cni/10-k2.conflist", node_config.cni(self._places))
        self._write("resolv.conf", "")
        self._places.run.mkdir(parents=True, exist_ok=True, mode=0o711)
        cgroups.create(self._places.group)
        self._processes.start(Command("containerd", [str(tool("containerd")), f"--config={config}"], {"PATH": _PATH}))
        self._processes.wait_ready("containerd", self._containerd_answers, _START_TIMEOUT_S)
        archive = self._home / "pause.tar"
        architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
        write_image(archive, node_config.PAUSE_IMAGE, tool("pause", self._say).read_bytes(), architecture)
        load_image(self._places, archive)

    def start(self) -> None:
        """Start the rest; the API server must answer already. Returns when the node and the names are ready.

        Raises:
            SetupError: Something did not start, or the node did not become ready.
        """
        self._kubectl("apply", "--server-side", "--filename=-", stdin=node_config.first_objects())
        for command in (self._scheduler(), self._kubelet(), self._kube_proxy(), self._coredns()):
            self._processes.start(command)
        self._plane.wait_for_controllers()
        self._processes.wait_ready("kubelet", self._node_is_ready, _START_TIMEOUT_S)
        self._processes.wait_ready("coredns", self._coredns_is_ready, _START_TIMEOUT_S)

    def _node_is_ready(self) -> bool:
        # Until kube-proxy has written its first rules, a pod's connections to Services would go nowhere.
        path = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        ready = _get(self._processes, "node", self._name, path)
        return ready == "True" and "KUBE-SERVICES" in self._run([str(tool("iptables")), "-t", "nat", "-S"])

    def _coredns_is_ready(self) -> bool:
        url = f"http://127.0.0.1:{node_config.COREDNS_READY_PORT}/ready"
        program = f"import urllib.request; urllib.request.urlopen('{url}', timeout=2)"
        command = [*self._processes.enter, "python3", "-I", "-S", "-c", program]
        return subprocess.run(command, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False).returncode == 0

    def _containerd_answers(self) -> bool:
        command = [*_ctr(self._places), "version"]
        return subprocess.run(command, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False).returncode == 0

    def _scheduler(self) -> Command:
        own = self._plane.client("scheduler", "/CN=system:kube-scheduler")
        options = [f"--kubeconfig={own}", "--leader-elect=false", "--secure-port=0", "--profiling=false"]
        return Command("kube-scheduler", [str(tool("kube-scheduler")), *options])

    def _kubelet(self) -> Command:
        own = self._plane.client("kubelet", f"/O=system:nodes/CN=system:node:{self._name}")
        here = [f"IP:{network.NODE_ADDRESS}", f"DNS:{self._name}"]
        pair = self._plane.authority.sign("kubelet-server", f"/O=system:nodes/CN=system:node:{self._name}", here)
        text = node_config.kubelet(self._places, self._plane.authority.certificate, pair.certificate, pair.key)
        options = [
            f"--config={self._write('kubelet.yaml', text)}",
            f"--kubeconfig={own}",
            f"--hostname-override={self._name}",
            f"--node-ip={network.NODE_ADDRESS}",
            f"--root-dir={self._home / 'kubelet'}",
            f"--cert-dir={self._home / 'pki'}",
        ]
        return Command("kubelet", [str(tool("kubelet")), *options], {"PATH": _PATH})

    def _kube_proxy(self) -> Command:
        own = self._plane.client("kube-proxy", "/CN=system:kube-proxy")
        config = self._write("kube-proxy.yaml", node_config.kube_proxy(own, self._name))
        return Command("kube-proxy", [str(tool("kube-proxy")), f"--config={config}"], {"PATH": _PATH})

    def _coredns(self) -> Command:
        own = self._plane.client("coredns", "/CN=system:coredns")
        return Command("coredns", [str(tool("coredns")), f"-conf={self._write('Corefile', node_config.corefile(own))}"])

    def _kubectl(self, *arguments: str, stdin: str) -> str:
        return self._run([str(tool("kubectl")), f"--kubeconfig={self._plane.kubeconfig}", *arguments], stdin)

    def _run(self, command: Sequence[str], stdin: str | None = None) -> str:
        return run([*self._processes.enter, *command], stdin)

    def _write(self, name: str, text: str) -> Path:
        path = self._home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path
