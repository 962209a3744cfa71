"""Which Java is taken for Trino."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_core.errors import SetupError
from onenode import java


def listing(path: Path, modules: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho '{modules}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(java, "_INSTALLED", tmp_path / "jvm")


def test_the_first_that_can_run_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    listing(tmp_path / "named" / "bin" / "java", "java.base@25.0.3")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "named"))
    whole = listing(tmp_path / "jvm" / "jdk-25" / "bin" / "java", "java.base@25.0.3\njdk.incubator.vector@25.0.3")
    assert java.find_java() == whole


def test_without_one_the_message_says_which_were_found(tmp_path: Path) -> None:
    old = listing(tmp_path / "jvm" / "old" / "bin" / "java", "java.base@17.0.1")
    with pytest.raises(SetupError, match=rf"found {old} \(17\), expected Java 24 or newer with jdk\.incubator\.vector"):
        java.find_java()


def test_without_any_it_says_so() -> None:
    with pytest.raises(SetupError, match="found no Java, expected Java 24"):
        java.find_java()
