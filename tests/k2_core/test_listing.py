"""Listing a folder of a warehouse on disk; of one on S3, the tests of raw files and of maintenance do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_core.errors import SetupError, StorageUnavailableError
from k2_core.listing import folders, listed


def test_files_are_listed_here_or_below(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b").write_bytes(b"12")
    url = f"file://{tmp_path}"
    assert [(one.base_name, one.size) for one in listed(PyArrowFileIO(), url)] == [("a", 1)]
    assert {(one.base_name, one.size) for one in listed(PyArrowFileIO(), url, below=True)} == {("a", 1), ("b", 2)}


def test_folders_are_listed_be_they_empty_or_not(tmp_path: Path) -> None:
    (tmp_path / "more" / "empty").mkdir(parents=True)
    (tmp_path / "more" / "b").write_bytes(b"12")
    assert set(folders(PyArrowFileIO(), f"file://{tmp_path}")) == {f"{tmp_path}/more", f"{tmp_path}/more/empty"}
    assert folders(PyArrowFileIO(), f"file://{tmp_path}/none") == []


def test_no_folder_is_no_file(tmp_path: Path) -> None:
    assert listed(PyArrowFileIO(), f"file://{tmp_path}/none") == []


def test_what_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(StorageUnavailableError, match="warehouse: found"):
        listed(PyArrowFileIO(), f"file://{tmp_path}/a")


def test_what_cannot_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="found FsspecFileIO, expected PyArrowFileIO"):
        listed(FsspecFileIO({}), f"file://{tmp_path}")
