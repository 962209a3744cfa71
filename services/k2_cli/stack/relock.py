"""Writes `kafka.lock`: resolves Kafka's whole closure, downloads it and records sizes and digests.

A maintainer's tool, run when Kafka's version changes: `python -m k2_cli.stack.relock`. Nothing calls it at run time.
What is locked is what the Maven repository gave on that day; the change of the file is to be reviewed.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from k2_cli.stack.artifacts import LOCK_FILE, Jar
from k2_cli.stack.maven import download, maven_context

ROOTS = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    # Kafka logs through slf4j-api 1.7; this writes to stderr. The two versions must be equal.
    "org.slf4j:slf4j-simple:1.7.36",
)
_HEADER = "# Kafka's jars: Maven coordinate, bytes, SHA-256. Written by `python -m k2_cli.stack.relock`; do not edit.\n"


def resolve(roots: tuple[str, ...], repository: Path) -> list[str]:
    """The coordinates that the roots need at run time, themselves included, sorted."""
    context = maven_context(repository)
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in roots])
    return sorted({f"{each.groupId}:{each.artifactId}:{each.version}" for each in [*inputs, *transitive]})


def lock(roots: tuple[str, ...], target: Path, *, alone: tuple[str, ...] = (), header: str = _HEADER) -> None:
    """Writes the lock file of the roots' closure, and of jars that are wanted without what they need."""
    with tempfile.TemporaryDirectory(prefix="k2-relock-") as folder:
        repository = Path(folder)
        jars = [_measure(coordinate, repository) for coordinate in (*resolve(roots, repository), *alone)]
    lines = (f"{jar.coordinate} {jar.size_bytes} {jar.sha256}\n" for jar in jars)
    target.write_text(header + "".join(lines))


def _measure(coordinate: str, repository: Path) -> Jar:
    content = download(coordinate, repository).read_bytes()
    return Jar(coordinate, len(content), hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    lock(ROOTS, LOCK_FILE)
    print(f"wrote {LOCK_FILE}", file=sys.stderr)
