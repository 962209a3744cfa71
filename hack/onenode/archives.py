"""Archives of Maven repositories: fetched through the one door to them, checked, and unpacked in part.

Called by `onenode.tools`, which owns the cache. What a tool keeps of an archive stands in tools.toml.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from k2_cli.stack.maven import maven_context
from k2_core.errors import SetupError
from onenode.catalog import Tool

_PACKAGING: Final = "tar.gz"


def fetch(entry: Tool, scratch: Path) -> Path:
    """Return a tool's archive, downloaded below `scratch`.

    Raises:
        SetupError: No repository has it, or it is another one than tools.toml says.
        OSError: The repository is not reachable, or the disk is full.
    """
    group, artifact = entry.package.split(":")
    component = maven_context(scratch / "maven").project(group, artifact).at_version(entry.version)
    try:
        archive = Path(component.artifact("", _PACKAGING).resolve())
    except RuntimeError as error:  # jgo's word for "in no repository"
        raise SetupError(f"could not fetch {entry.package}:{entry.version}: {error}") from error
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found not in entry.sha256:
        raise SetupError(
            f"{entry.package}:{entry.version}: found SHA-256 {found}, expected {' or '.join(entry.sha256)}"
        )
    return archive


def unpack(archive: Path, keep: Sequence[str], target: Path) -> None:
    """Put what is kept of an archive into a folder, and remove the archive.

    Args:
        archive: Verified; everything in it lies below one top folder.
        keep: Beginnings of paths below that folder.
        target: Exists.

    Archives hold equal files once and as hard links to them, which may lead from what is kept to what is not.
    """
    whole = target.with_name(f"{target.name}-whole")
    with tarfile.open(archive) as content:
        content.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
        members = [member for member in content.getmembers() if not member.isdir()]
        kept = {member.name for member in members if _below(member.name).startswith(tuple(keep))}
        needed = kept | {member.linkname for member in members if member.name in kept and member.islnk()}
        content.extractall(whole, [member for member in members if member.name in needed])  # noqa: S202  # verified
    archive.unlink()
    for name in sorted(kept):
        place = target / _below(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(whole / name, place)


def _below(name: str) -> str:
    return name.partition("/")[2]
