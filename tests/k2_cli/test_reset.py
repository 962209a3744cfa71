"""`k2 reset`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from k2_cli.folder import RunInfo, StateFolder
from support.cli import k2


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def used(tmp_path: Path) -> StateFolder:
    """A folder that a pipeline has used."""
    folder = StateFolder(tmp_path / "d")
    folder.acquire()
    folder.release()
    folder.pipeline_file.write_text("x")
    (folder.root / "kafka").mkdir()
    (folder.root / "kafka" / "data").write_text("y" * 10_000)
    folder.catalog.write_text("z")
    return folder


def test_everything_of_k2_is_removed_with_the_folder(used: StateFolder) -> None:
    answer = k2("reset", "--dir", used.root, "--yes", "--json")
    assert answer.code == 0
    assert answer.document["bytes"] >= 10_000
    assert str(used.catalog) in answer.document["removed"]
    assert not used.root.exists()


def test_what_is_not_k2s_stays(used: StateFolder) -> None:
    (used.root / "notes.txt").write_text("mine")
    assert k2("reset", "--dir", used.root, "--yes").out.startswith("removed ")
    assert [path.name for path in used.root.iterdir()] == ["notes.txt"]


def test_a_folder_in_use_is_refused(used: StateFolder) -> None:
    used.acquire()
    starting = k2("reset", "--dir", used.root, "--yes")
    used.write_run(RunInfo(4711, "", "", "", ""))
    running = k2("reset", "--dir", used.root, "--yes")
    used.release()
    assert (starting.code, running.code) == (3, 3)
    assert "is in use by `k2 up` of process 4711, expected nothing to run on it" in running.err
    assert used.catalog.exists()


def test_without_a_terminal_it_wants_to_be_told(used: StateFolder) -> None:
    answer = k2("reset", "--dir", used.root)
    assert answer.code == 2
    assert str(used.catalog) in answer.out
    assert "expected --yes" in answer.err
    assert used.catalog.exists()


@pytest.mark.parametrize(("word", "code", "left"), [("y", 0, False), ("n", 1, True)], ids=["yes", "no"])
def test_in_a_terminal_it_asks(
    used: StateFolder, monkeypatch: pytest.MonkeyPatch, word: str, code: int, left: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{word}\n"))
    assert k2("reset", "--dir", used.root).code == code
    assert used.root.exists() is left


def test_nothing_to_remove(tmp_path: Path) -> None:
    answer = k2("reset", "--dir", tmp_path / "nothing", "--yes")
    assert (answer.code, answer.out) == (0, f"{tmp_path}/nothing: nothing to remove\n")
