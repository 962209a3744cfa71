"""A private cache and a Maven repository on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.maven import Repository, serve


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own, with an empty home around it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def maven(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A repository that the user's jgo configuration names as the mirror of the default one."""
    with serve() as repository:
        settings = tmp_path / "jgo.conf"
        settings.write_text(f"[repositories]\ncentral = {repository.url}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
        yield repository
