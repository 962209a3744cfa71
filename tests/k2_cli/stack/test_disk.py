"""k2_cli.stack.disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from k2_cli.stack.disk import free_bytes, used_bytes

MIB = 1024 * 1024


def test_holes_are_not_counted(tmp_path: Path) -> None:
    with (tmp_path / "index").open("wb") as stream:
        stream.truncate(64 * MIB)
    assert used_bytes(tmp_path) < MIB


def test_files_of_all_folders_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(2 * MIB))
    (tmp_path / "other").write_bytes(os.urandom(MIB))
    assert 3 * MIB <= used_bytes(tmp_path) < 3.2 * MIB


def test_a_second_name_and_a_link_add_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(os.urandom(MIB))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file").write_bytes(os.urandom(MIB))
    os.link(inside / "file", inside / "again")
    (inside / "link").symlink_to(outside)
    assert MIB <= used_bytes(inside) < 1.2 * MIB


def test_a_folder_that_does_not_exist_takes_nothing(tmp_path: Path) -> None:
    assert used_bytes(tmp_path / "missing") == 0


def test_free_space_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
