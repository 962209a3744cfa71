"""The image of Trino for a cluster without a registry: laid out as the official trinodb/trino is, and named as it is.

Owns what lies where in it; `onenode.images` builds and exports it. Its parts are the tool `trino` (few of its plugins),
the Java that this machine has for it, and the files of the folder `trino/` beside this module. So a pod that asks for
`trinodb/trino:476` starts unchanged, as long as it uses no other connector than Iceberg.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from onenode.catalog import read_catalog
from onenode.java import find_java
from onenode.tools import tool

TARGET: Final = "trino"
MADE_OF: Final = "dev.k2.made-of"
"""Label with the fingerprint of everything that the image was made of."""
_FILES: Final = Path(__file__).with_name("trino")
_JAVA_HOME: Final = "/usr/lib/jvm/java"
_TRINO_HOME: Final = "/usr/lib/trino"
_ETC: Final = "/etc/trino"
_USER: Final = "1000:1000"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_NOT_OF_JAVA: Final = ("src.zip", "ct.sym", "include", "man")
"""What only compilers and people need of a JDK: a quarter of it."""
_PREPARE: Final = """set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
groupadd --gid 1000 trino
useradd --uid 1000 --gid 1000 --create-home trino
install --directory --owner=trino --group=trino /data /data/trino
apt-get -q update
apt-get -q install --yes --no-install-recommends curl
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /usr/share/doc /usr/share/man
"""
"""The official image brings curl too: a graceful shutdown is a PUT, which no probe and no hook can do by itself."""

Run = Callable[..., str]


def reference() -> str:
    """Full name of the image, as a pod that asks for `trinodb/trino:<version>` gets it."""
    return f"docker.io/trinodb/trino:{read_catalog()[TARGET].version}"


def java_home() -> Path:
    """Folder of the Java that the image gets.

    Raises:
        SetupError: This machine has none that can run Trino.
    """
    return find_java().parents[1]


def fingerprint(java: Path, base: str) -> str:
    """Digest of everything that the image is made of; the same one means that there is nothing to build.

    Args:
        java: Folder of the Java.
        base: Identity of the image under it.
    """
    digest = hashlib.sha256(f"{read_catalog()[TARGET]}\n{base}\n{java}\n".encode())
    for path in (java / "release", Path(__file__), *sorted(_FILES.rglob("*"))):
        if path.is_file():
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def lay_out(root: Path, trino: Path, java: Path) -> None:
    """Gather the image's files below a folder.

    Args:
        root: An empty folder of the file system that `trino` is in: its files are linked, not copied.
        trino: Folder of the tool.
        java: Folder of the Java.
    """
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    others = {path.name for path in (trino / "bin").iterdir() if path.is_dir()} - {f"linux-{architecture}"}
    home = root / _TRINO_HOME.lstrip("/")
    shutil.copytree(trino, home, copy_function=os.link, ignore=shutil.ignore_patterns(*others))
    shutil.copytree(_FILES / "bin", home / "bin", dirs_exist_ok=True)
    shutil.copytree(_FILES / "etc", root / _ETC.lstrip("/"))
    (root / _ETC.lstrip("/") / "catalog").mkdir()
    # Links are followed: Debian's packages of Java keep the certificates elsewhere.
    place = root / _JAVA_HOME.lstrip("/")
    shutil.copytree(java, place, ignore=shutil.ignore_patterns(*_NOT_OF_JAVA))


def build(run: Run, signed: Sequence[str], base: str, made_of: str, scratch: Path) -> None:
    """Build the image.

    Args:
        run: Runs one of buildah's commands and returns what it prints.
        signed: Options for those of them that ask for a policy of signatures.
        base: Image under it, of Debian.
        made_of: Its fingerprint.
        scratch: An empty folder of the cache.

    Raises:
        SetupError: Trino, Java or curl cannot be had, or the disk is full.
    """
    trino, java = tool(TARGET).parents[1], java_home()
    lay_out(scratch, trino, java)
    container = run("from", "--pull-never", *signed, base).strip()
    try:
        run("run", container, "--", "sh", "-c", _PREPARE)
        run("copy", "--quiet", "--chown=0:0", container, str(scratch / _JAVA_HOME.lstrip("/")), _JAVA_HOME)
        for place in (_TRINO_HOME, _ETC):
            run("copy", "--quiet", f"--chown={_USER}", container, str(scratch / place.lstrip("/")), place)
        environment = [f"--env=JAVA_HOME={_JAVA_HOME}", "--env=LANG=C.UTF-8", "--env=LC_ALL=C.UTF-8"]
        started = [f'--cmd=["{_TRINO_HOME}/bin/run-trino"]', "--user=trino:trino", "--workingdir=/", "--port=8080"]
        run("config", *environment, *started, f"--label={MADE_OF}={made_of}", container)
        run("commit", "--quiet", *signed, container, reference())
    finally:
        run("rm", container)
