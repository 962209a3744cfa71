"""k2_cli.stack.relock."""

from __future__ import annotations

from pathlib import Path

from k2_cli.stack.artifacts import read_lock
from k2_cli.stack.relock import ROOTS, lock
from support.maven import Repository


def _dependency(coordinate: str, scope: str) -> str:
    group, artifact, version = coordinate.split(":")
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version><scope>{scope}</scope></dependency>"
    )


def test_the_whole_runtime_closure_is_locked(maven: Repository, tmp_path: Path) -> None:
    leaf = maven.add("org.example:leaf:3", b"leaf")
    for unwanted in ("junit:4", "servlet:5"):
        maven.add(f"org.example:{unwanted}", b"unwanted")
    middle = maven.add("org.example:middle:2", b"middle", _dependency("org.example:leaf:3", "runtime"))
    unused = _dependency("org.example:junit:4", "test") + _dependency("org.example:servlet:5", "provided")
    root = maven.add("org.example:root:1", b"root", _dependency("org.example:middle:2", "compile") + unused)
    lock(("org.example:root:1",), tmp_path / "kafka.lock")
    assert read_lock(tmp_path / "kafka.lock") == (leaf, middle, root)


def test_the_shipped_lock_was_made_from_these_roots() -> None:
    assert set(ROOTS) <= {jar.coordinate for jar in read_lock()}
