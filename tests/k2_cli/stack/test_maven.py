"""k2_cli.stack.maven."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from k2_cli.stack.maven import download, maven_context
from k2_core.errors import SetupError
from support.maven import Repository


def test_the_users_mirror_replaces_the_default(maven: Repository, tmp_path: Path) -> None:
    assert maven_context(tmp_path).remote_repos == {"central": maven.url}


def test_further_mirrors_come_before_the_default(maven: Repository, tmp_path: Path) -> None:
    (tmp_path / "jgo.conf").write_text(f"[repositories]\nhouse = {maven.url}\n")
    assert list(maven_context(tmp_path).remote_repos) == ["house", "central"]


def test_a_download_stays_in_its_folder(maven: Repository, tmp_path: Path) -> None:
    maven.add("org.example:a:1", b"content")
    path = download("org.example:a:1", tmp_path / "here")
    assert path.read_bytes() == b"content"
    assert path.is_relative_to(tmp_path / "here")


def test_without_jgo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jgo", None)
    monkeypatch.delitem(sys.modules, "jgo.maven", raising=False)
    with pytest.raises(SetupError, match="found no Python package jgo"):
        maven_context(tmp_path)
