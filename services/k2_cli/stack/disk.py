"""How much disk the embedded state takes, and how much is left.

Called by `k2 up` (`--max-disk`) and `k2 tables`. Reads the file system only.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK_BYTES = 512
"""POSIX stat(2): `st_blocks` counts 512-byte units, whatever the file system's own block size."""


def used_bytes(directory: Path) -> int:
    """Bytes that a folder really takes on disk, folders included; 0 if it does not exist.

    Allocated blocks, not lengths: each partition of Kafka holds 20 MB of index files that are almost all holes. A file
    with several names counts once, a symbolic link as itself. Files that vanish meanwhile count as 0.
    """
    seen: set[tuple[int, int]] = set()
    return _blocks(os.fspath(directory), seen) * _BLOCK_BYTES


def free_bytes(directory: Path) -> int:
    """Bytes that a normal user may still write on the file system of a folder, or of its nearest existing parent."""
    existing = directory.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _blocks(path: str, seen: set[tuple[int, int]]) -> int:
    try:
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) in seen:
            return 0
        seen.add((status.st_dev, status.st_ino))
        if not stat.S_ISDIR(status.st_mode):
            return status.st_blocks
        with os.scandir(path) as entries:
            return status.st_blocks + sum(_blocks(entry.path, seen) for entry in entries)
    except FileNotFoundError:  # Kafka deletes segments and Iceberg's writers rename while we look.
        return 0
