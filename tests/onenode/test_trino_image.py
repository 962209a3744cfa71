"""Trino's image: what lies in it, and when there is nothing to build."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from k2_core.errors import SetupError
from onenode import images, trino_image
from onenode.catalog import read_catalog


@pytest.fixture
def trino(tmp_path: Path) -> Path:
    return tree(tmp_path / "trino", "bin/launcher", "bin/linux-amd64/launcher", "bin/linux-s390x/launcher", "lib/a.jar")


@pytest.fixture
def java(tmp_path: Path) -> Path:
    made = tree(
        tmp_path / "java", "bin/java", "release", "lib/modules", "lib/src.zip", "include/jni.h", "man/man1/java.1"
    )
    elsewhere = tree(tmp_path / "certificates", "cacerts")
    (made / "lib" / "cacerts").symlink_to(elsewhere / "cacerts")
    return made


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def test_it_is_laid_out_as_the_official_one_for_this_machine_alone(
    tmp_path: Path, trino: Path, java: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    root = tmp_path / "root"
    trino_image.lay_out(root, trino, java)
    programs = {
        f"usr/lib/trino/bin/{name}" for name in ("launcher", "linux-amd64/launcher", "run-trino", "health-check")
    }
    configured = {
        f"etc/trino/{name}" for name in ("config.properties", "node.properties", "jvm.config", "log.properties")
    }
    runtime = {f"usr/lib/jvm/java/{name}" for name in ("bin/java", "release", "lib/modules", "lib/cacerts")}
    assert files(root) == programs | configured | runtime | {"usr/lib/trino/lib/a.jar"}
    assert (root / "usr/lib/trino/bin/run-trino").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/trino/catalog").is_dir()


def change_the_base(_java: Path, _files: Path) -> str:
    return "another"


def change_java(java: Path, _files: Path) -> str:
    (java / "release").write_text("another")
    return "base"


def change_a_file(_java: Path, files: Path) -> str:
    (files / "etc" / "jvm.config").write_text("another")
    return "base"


@pytest.mark.parametrize("change", [change_the_base, change_java, change_a_file], ids=["base", "java", "file"])
def test_what_it_is_made_of_tells_whether_to_build(
    change: Callable[[Path, Path], str], tmp_path: Path, java: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "files"
    shutil.copytree(trino_image._FILES, own)
    monkeypatch.setattr(trino_image, "_FILES", own)
    before = trino_image.fingerprint(java, "base")
    assert trino_image.fingerprint(java, "base") == before
    assert trino_image.fingerprint(java, change(java, own)) != before


def test_its_name_is_the_official_one_with_the_version_of_the_tool() -> None:
    assert images.reference("trino") == f"docker.io/trinodb/trino:{read_catalog()['trino'].version}"


def test_a_machine_without_a_java_for_it_builds_the_others_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert images.possible(said.append) == images.ALL
    assert not said

    def none() -> Path:
        raise SetupError("found no Java")

    monkeypatch.setattr(trino_image, "find_java", none)
    assert images.possible(said.append) == images.TARGETS
    assert said == ["without the image of Trino: found no Java"]
