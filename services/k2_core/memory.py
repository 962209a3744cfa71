"""How much of its memory a process uses, as the share that levels of degradation go by.

The limit is that of the process' control group (a pod's), or the machine's memory where there is none. Reads files of
the Linux kernel; elsewhere the share is not known.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of control groups in version 2 and 1, as a container sees its own."""
_RESIDENT: Final = Path("/proc/self/statm")


def memory_ratio() -> float | None:
    """Return this process' resident memory as a share of its limit; None where it cannot be known."""
    try:
        resident = int(_RESIDENT.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
    return resident / limit_bytes()


def limit_bytes(files: tuple[Path, ...] = _LIMITS) -> int:
    """Return the memory that this process may use: never more than the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for file in files if (limit := _limit(file)) is not None)])


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) > 0 else None
