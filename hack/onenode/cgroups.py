"""The control group that everything in a cluster's pods belongs to, in each hierarchy that the machine has.

Called by `onenode.node` and `onenode.traces`. It never touches a group of another name.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mounts")
_INHERITED: Final = ("cpuset.cpus", "cpuset.mems")
"""A new cpuset group (v1) has none, and takes no process until it has."""


def hierarchies(mounts: str | None = None) -> list[Path]:
    """Mount points of all hierarchies, both versions.

    Args:
        mounts: Text of /proc/self/mounts; None reads it.
    """
    lines = (_MOUNTS.read_text() if mounts is None else mounts).splitlines()
    entries = [line.split() for line in lines]
    return list(dict.fromkeys(Path(entry[1]) for entry in entries if entry[2] in {"cgroup", "cgroup2"}))


def create(name: str) -> None:
    """Make the group in each hierarchy."""
    for root in hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        for setting in _INHERITED:
            if (root / setting).exists() and (group / setting).exists():
                (group / setting).write_text((root / setting).read_text())
        controllers = root / "cgroup.controllers"
        if controllers.exists() and (names := controllers.read_text().split()):  # version 2
            (root / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in names))


def members(name: str) -> set[int]:
    """Ids of the processes in the group and in the groups below it."""
    found: set[int] = set()
    for root in hierarchies():
        for file in (root / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the group ended meanwhile
                found.update(int(line) for line in file.read_text().split())
    return found


def remove(name: str) -> None:
    """Remove the group and those below it; they must be empty of processes."""
    for root in hierarchies():
        for folder, _, _ in os.walk(root / name, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                Path(folder).rmdir()
