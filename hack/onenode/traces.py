"""What a node leaves outside its folder, found by what it is called and removed.

Called by `onenode.cluster` when a cluster goes down, also after a crash of half of it. Everything here is found by the
cluster's own name or path: processes of its containerd and its control group, mounts below its folders, its links.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

import psutil

from k2_core.errors import SetupError
from onenode import cgroups
from onenode.node_config import Places
from onenode.processes import end

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_POD_LINKS: Final = Path("/var/log/containers")
"""Where every kubelet puts links to its pods' logs; it cannot be configured."""
_CNI_RESULTS: Final = Path("/var/lib/cni/results")
_DEVICE_SOCKET: Final = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
"""Of every kubelet, whatever its root folder."""
_SHARED_FOLDERS: Final = tuple(
    Path(folder)
    for folder in (
        "/run/k2",
        "/run/containerd/runc/k8s.io",
        "/run/containerd/runc",
        "/run/containerd/s",
        "/run/containerd",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
        "/var/lib/cni/results",
        "/var/lib/cni",
    )
)
"""Made by one of the programs at a place that cannot be configured, or by several clusters."""
_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 5.0


def end_pods(places: Places) -> None:
    """End the processes of all pods and their shims, after kubelet and containerd.

    Raises:
        SetupError: One cannot be ended.
    """
    # Hard-wired in the shim is the folder of its socket, whose name is a hash: each shim's bundle says which it is.
    addresses = [file.read_text() for file in places.run.glob("containerd/io.containerd.runtime.v2.task/*/*/address")]
    # Shims first: else they would log and report the end of each container.
    _kill([process for process in psutil.process_iter() if _is_shim(process, places)])
    members = []
    for pid in cgroups.members(places.group):
        with contextlib.suppress(psutil.NoSuchProcess):
            members.append(psutil.Process(pid))
    _kill(members)
    for address in addresses:
        Path(address.strip().removeprefix("unix://")).unlink(missing_ok=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    end(processes, _END_TIMEOUT_S)


def _is_shim(process: psutil.Process, places: Places) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return (
        bool(command)
        and Path(command[0]).name.startswith("containerd-shim")
        and str(places.containerd_socket) in command
    )


def _forget_addresses(places: Places) -> None:
    """Remove what the CNI library remembers of this cluster's pods: an entry holds its container and configuration."""
    entries = {}
    for path in _CNI_RESULTS.glob("*"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # another cluster's, being removed or written
            entries[path] = json.loads(path.read_text())
    own = {
        entry["containerId"]
        for entry in entries.values()
        if str(places.home) in base64.b64decode(entry["config"]).decode()
    }
    for path, entry in entries.items():
        if entry["containerId"] in own:
            path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def mounts_below(folders: list[Path], mountinfo: str) -> list[str]:
    """Mount points below any of the folders, the deepest and youngest first.

    Args:
        folders: Absolute paths.
        mountinfo: Text of /proc/self/mountinfo (proc(5)); the fifth field is the mount point, with octal escapes.
    """
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    below = [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]
    return below[::-1]


def unmount(folders: list[Path]) -> None:
    """Unmount everything below the folders.

    Raises:
        SetupError: Something stays mounted.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while left := mounts_below(folders, _MOUNTINFO.read_text()):
        for point in left:
            subprocess.run(["umount", point], capture_output=True, timeout=_TIMEOUT_S, check=False)
        if time.monotonic() > deadline:
            raise SetupError(f"could not unmount {', '.join(left)}")


def remove(places: Places) -> None:
    """Remove what lies elsewhere: the group, the socket's folder, links to logs."""
    cgroups.remove(places.group)
    shutil.rmtree(places.run, ignore_errors=True)
    _forget_addresses(places)
    if _DEVICE_SOCKET.is_socket() and not _answers(_DEVICE_SOCKET):
        _DEVICE_SOCKET.unlink()
    for folder in _SHARED_FOLDERS:  # the last one out removes what is empty
        with contextlib.suppress(OSError):
            folder.rmdir()
    if _POD_LINKS.is_dir():
        for link in _POD_LINKS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(places.home):
                link.unlink()
