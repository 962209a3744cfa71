"""One owner at a time for a folder, also across a kill.

Called by `k2_cli.stack.kafka`. The kernel frees a lock (flock(2)) when the last process that inherited it ends: no lock
outlives its owner, and none must be removed by hand. Works on local disks only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from k2_core.errors import SetupError


class FolderLock:
    """An exclusive lock on a file, held until `release` and by every child that is given `descriptor`.

    Args:
        path: The lock's file; made with its folder, and never removed.
        purpose: What messages call the owner's work (`Kafka`).
    """

    def __init__(self, path: Path, purpose: str) -> None:
        self._path = path
        self._purpose = purpose
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file that carries the lock, to be passed to a child.

        Raises:
            SetupError: The lock is not held.
        """
        if self._descriptor is None:
            raise SetupError(f"{self._path} is not locked, expected it to be held")
        return self._descriptor

    def acquire(self) -> None:
        """Takes the lock at once or not at all.

        Raises:
            SetupError: Another owner has it (named by process id), or the folder cannot be written.
        """
        self.release()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(f"cannot write {self._path}: {error.strerror}; expected a folder of yours") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode()
            os.close(descriptor)
            raise SetupError(
                f"{self._path.parent} is in use by {self._purpose} of process {owner}; "
                "stop that one or use another directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the lock up, unless a child still holds it. May be called again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
