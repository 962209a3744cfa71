"""A share of a core for one process, by the kernel's own bandwidth control (cgroup version 1 or 2); for `scale-out`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError
from onenode.cgroups import hierarchies

PERIOD_US: Final = 20_000
"""Shorter than the kernel's 100 ms: a process that has used its share stands still for less time at once."""


@contextlib.contextmanager
def limited(pid: int, cores: float) -> Iterator[None]:
    """Give a process and all its threads so many cores until the end of the block, or of the process.

    Raises:
        SetupError: There is no root, or no controller of processor time.
    """
    root, group = _root(), f"k2-bench-{os.getpid()}-{pid}"
    folder = root / group
    folder.mkdir()
    quota_us = round(PERIOD_US * cores)
    if (folder / "cpu.cfs_quota_us").exists():
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    else:
        (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
    (folder / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        for line in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                (root / "cgroup.procs").write_text(line)
        folder.rmdir()


def _root() -> Path:
    """Return the hierarchy in which processor time is limited."""
    if os.geteuid():
        raise SetupError("found no root, expected it for limiting processes to shares of a core")
    for root in hierarchies():
        if (root / "cpu.cfs_period_us").exists() or (root / "cpu.shares").exists():
            return root
        offered = root / "cgroup.controllers"
        if offered.exists() and "cpu" in offered.read_text().split():
            (root / "cgroup.subtree_control").write_text("+cpu")
            return root
    raise SetupError("found no controller of processor time in /sys/fs/cgroup, expected cgroup version 1 or 2 with cpu")
