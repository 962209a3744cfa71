"""The network namespace of a cluster: one address, no way out.

Called by `onenode.node`. Addresses are from the ranges for documentation (RFC 5737), which no network routes, and the
namespace has no link to any other: a packet for a pod or a Service can never leave the machine.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError

NODE_ADDRESS: Final = "192.0.2.1"
_NODE_LINK: Final = "node0"
"""A bridge without ports: it carries an address where a kernel has no dummy devices."""
POD_RANGE: Final = "198.51.100.0/24"
_NAMESPACES: Final = Path("/run/netns")
_TIMEOUT_S: Final = 30.0


def enter(name: str) -> tuple[str, ...]:
    """Prefix that runs a command inside; `ip netns exec` would hide the cgroup mounts that the kubelet needs."""
    return ("nsenter", f"--net={_NAMESPACES / name}")


def exists(name: str) -> bool:
    """Whether there is a namespace of this name."""
    return (_NAMESPACES / name).exists()


def create(name: str) -> None:
    """Make the namespace with the node's address in it.

    Raises:
        SetupError: There is one of this name already, or the kernel refuses.
    """
    if exists(name):
        raise SetupError(f"found a network namespace {name!r} already; `hack/cluster down`, or another --name")
    _run(["ip", "netns", "add", name])
    for step in _steps():
        _run(["ip", "-n", name, *step])
    # /proc/sys/net is that of whoever opens it.
    _run([*enter(name), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])


def _steps() -> Sequence[Sequence[str]]:
    return [
        ["link", "set", "lo", "up"],
        ["link", "add", _NODE_LINK, "type", "bridge"],
        ["address", "add", f"{NODE_ADDRESS}/24", "dev", _NODE_LINK],
        ["link", "set", _NODE_LINK, "up"],
        # Without a route the kernel refuses packets for Services before kube-proxy's rules can turn them.
        ["route", "add", "default", "dev", _NODE_LINK],
    ]


def remove(name: str) -> None:
    """Remove the namespace with its links; nothing happens if there is none."""
    if exists(name):
        _run(["ip", "netns", "delete", name])
    if _NAMESPACES.is_dir() and not any(_NAMESPACES.iterdir()):
        # The first `ip netns add` has mounted the folder on itself. Another one may come between: then this fails.
        subprocess.run(["umount", str(_NAMESPACES)], capture_output=True, timeout=_TIMEOUT_S, check=False)
        with contextlib.suppress(OSError):
            _NAMESPACES.rmdir()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
