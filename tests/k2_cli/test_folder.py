"""k2_cli.folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from k2_cli.folder import RunInfo, RunningProcess, StateFolder
from k2_core.errors import SetupError

INFO = RunInfo(
    pid=1,
    started_at="2026-01-01T00:00:00+00:00",
    kafka="127.0.0.1:9092",
    api_url="http://127.0.0.1:8000",
    source="live: it answers",
    processes=(RunningProcess("sink-0", 2, "http://127.0.0.1:9000"), RunningProcess("exchange", 3, None)),
)


def test_places_are_below_one_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "d")
    assert folder.catalog_uri == f"sqlite:///{tmp_path}/d/catalog.db?timeout=30"
    assert folder.warehouse_url == f"file://{tmp_path}/d/warehouse"
    assert all(tmp_path / "d" in part.parents for part in folder.parts)


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = StateFolder(Path("d"))
    monkeypatch.chdir("/")
    assert folder.root == tmp_path / "d"


def test_two_owners_are_refused_and_the_first_is_named(tmp_path: Path) -> None:
    first, second = StateFolder(tmp_path), StateFolder(tmp_path)
    assert not second.in_use()
    first.acquire()
    assert second.in_use()
    with pytest.raises(SetupError, match=f"is in use by `k2 up` of process {os.getpid()}; stop that one"):
        second.acquire()
    first.release()
    assert not second.in_use()
    second.acquire()
    second.release()


def test_what_runs_is_told_while_it_runs(tmp_path: Path) -> None:
    owner, reader = StateFolder(tmp_path), StateFolder(tmp_path)
    assert reader.running() is None
    owner.acquire()
    assert reader.running() is None  # it is still starting
    owner.write_run(INFO)
    assert reader.running() == INFO
    owner.release()
    assert reader.running() is None


def test_what_a_killed_owner_left_behind_does_not_count(tmp_path: Path) -> None:
    owner = StateFolder(tmp_path)
    owner.acquire()
    owner.write_run(INFO)
    owner._lock.release()  # as the kernel does after a kill
    assert (tmp_path / "run.json").exists()
    assert StateFolder(tmp_path).running() is None


def test_the_kind_of_trades_is_remembered(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert folder.trades_kind() is None
    folder.mark_trades("synthetic")
    assert StateFolder(tmp_path).trades_kind() == "synthetic"


def test_a_folder_that_no_pipeline_used_is_refused(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "nothing")
    with pytest.raises(SetupError, match="nothing: found no pipeline's state, expected a folder that"):
        folder.require_data()
    folder.acquire()
    folder.pipeline_file.touch()
    folder.require_data()
    folder.release()
