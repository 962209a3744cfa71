"""What each tool is and where it comes from: the reading of tools.toml.

Owns the shape of that file. Called by `onenode.tools`, which fetches and builds. It never touches the machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Final

from k2_core.errors import SetupError

TOOLS_FILE: Final = Path(__file__).with_name("tools.toml")


class Source(StrEnum):
    """Where a tool comes from."""

    KUBERNETES = "kubernetes"
    GO = "go"
    WHEEL = "wheel"
    SOURCE = "source"
    DEBIAN = "debian"
    MAVEN = "maven"


@dataclass(frozen=True, slots=True)
class Tool:
    """One entry of tools.toml.

    Args:
        name: Its key.
        source: Where it comes from.
        programs: The executables it brings: names, or absolute paths (with `*`) of what is not on PATH.
        package: Go's package path, the wheel's or Debian's package name, a file of this folder, Maven's
            `group:artifact`; empty for Kubernetes.
        version: Without a leading v; empty for Debian, where the release decides.
        sha256: Of the wheels or archives that are accepted.
        takes: How long a first build takes, for people.
        keep: What stays of an archive, as beginnings of paths below its one top folder.
        room_gb: Free disk that making it needs; 0 where it is not worth asking.
    """

    name: str
    source: Source
    programs: tuple[str, ...]
    package: str = ""
    version: str = ""
    sha256: tuple[str, ...] = ()
    takes: str = "a minute"
    keep: tuple[str, ...] = ()
    room_gb: float = 0

    @property
    def folder(self) -> str:
        """Name of its folder in the cache."""
        return f"{self.name}-{self.version}"


def read_catalog(path: Path = TOOLS_FILE) -> Mapping[str, Tool]:
    """Read all tools, by name."""
    entries = tomllib.loads(path.read_text())
    return {
        name: Tool(
            name=name,
            source=Source(entry["from"]),
            programs=tuple(entry["programs"]),
            package=entry.get("package", ""),
            version=entry.get("version", ""),
            sha256=tuple(entry.get("sha256", ())),
            takes=entry.get("takes", "a minute"),
            keep=tuple(entry.get("keep", ())),
            room_gb=entry.get("room_gb", 0),
        )
        for name, entry in entries.items()
    }


def find(name: str, catalog: Mapping[str, Tool]) -> tuple[Tool, str]:
    """Find who brings a program.

    Args:
        name: A tool's name, which stands for its first program, or a program's name.
        catalog: What there is.

    Returns:
        The tool, and the program as the tool lists it.

    Raises:
        SetupError: Nothing has this name.
    """
    for tool in catalog.values():
        for program in tool.programs:
            if PurePath(program).name == name:
                return tool, program
    if name in catalog:
        return catalog[name], catalog[name].programs[0]
    known = sorted({PurePath(program).name for tool in catalog.values() for program in tool.programs})
    raise SetupError(f"found no tool {name!r}, expected one of {', '.join(known)}")
