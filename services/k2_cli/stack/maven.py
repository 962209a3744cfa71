"""The one door to Maven repositories: PyPI's jgo, which needs neither mvn nor Java.

Called by `k2_cli.stack.artifacts` (downloads) and `k2_cli.stack.relock` (resolution). Where it fetches from is jgo's
default and the user's jgo configuration (`JGO_CONFIG_FILE`, else ~/.config/jgo.conf, section `[repositories]`): mirrors
named there come first, and one named `central` replaces the default. It never touches the user's ~/.m2.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from k2_core.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from jgo.maven import MavenContext

_REQUEST_TIMEOUT_S = 30
"""For the connection and between two pieces of an answer, not for a whole download."""


def maven_context(repository: Path) -> MavenContext:
    """Returns a jgo context that keeps what it downloads below `repository`.

    Raises:
        SetupError: jgo is not installed.
    """
    # Imported when something must be fetched only: it is an optional extra and takes 0.4 s.
    try:
        maven = importlib.import_module("jgo.maven")
        settings = importlib.import_module("jgo.config").GlobalSettings.load()
    except ModuleNotFoundError as error:
        raise SetupError(
            f"found no Python package {error.name}, expected K2's extra `local` to be installed"
        ) from error
    context: MavenContext = maven.MavenContext(repo_cache=repository, timeout=_REQUEST_TIMEOUT_S)
    context.remote_repos = settings.repositories | context.remote_repos | settings.repositories
    return context


def download(coordinate: str, repository: Path) -> Path:
    """Downloads one jar.

    Args:
        coordinate: `group:artifact:version`, and for another jar of the same artifact `:classifier`.
        repository: Where it goes, in Maven's layout. A failed download may leave part of a file there.

    Raises:
        SetupError: jgo is not installed.
        OSError: The repository is not reachable or broke off, or the disk cannot be written.
        RuntimeError: No repository has it.
    """
    group, artifact, version, *classifier = coordinate.split(":")
    component = maven_context(repository).project(group, artifact).at_version(version)
    return repository / component.artifact(*classifier).resolve()
