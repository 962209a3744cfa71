"""k2_cli.stack.lock."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from k2_cli.stack.lock import FolderLock
from k2_core.errors import SetupError


def test_a_second_owner_is_refused_and_the_first_named(tmp_path: Path) -> None:
    first, second = (FolderLock(tmp_path / "kafka" / "lock", "the Kafka") for _ in range(2))
    first.acquire()
    with pytest.raises(SetupError, match=rf"kafka is in use by the Kafka of process {os.getpid()}; stop"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    second.release()


def test_a_child_with_the_descriptor_keeps_the_lock(tmp_path: Path) -> None:
    first, second = (FolderLock(tmp_path / "lock", "the Kafka") for _ in range(2))
    first.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[first.descriptor]):
        first.release()
        with pytest.raises(SetupError, match="is in use"):
            second.acquire()
    second.acquire()
    second.release()


def test_a_lock_that_is_not_held_has_no_descriptor(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is not locked"):
        _ = FolderLock(tmp_path / "lock", "the Kafka").descriptor


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot write .*file/lock: (Not a directory|File exists)"):
        FolderLock(tmp_path / "file" / "lock", "the Kafka").acquire()
