"""Kafka's classes, loaded and linked ahead of time: the broker starts in half the time.

Owns one archive beside the cached jars, recorded from a first start of a broker (JEP 483 and 514, Java 25 and later)
and used by every later one. Called by `k2_cli.stack.kafka`, which does the recording. It is an optimisation and never a
reason to fail: Java itself ignores an archive that does not fit its version, options or jars, and where recording
fails that is remembered and the broker starts as it would without.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from k2_cli.stack.lock import FolderLock
from k2_core.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from k2_cli.stack.artifacts import Progress
    from k2_cli.stack.java import JavaRuntime

MINIMUM_MAJOR = 25


def record_option(archive: Path) -> str:
    """The JVM option that writes the archive at the end of a run."""
    return f"-XX:AOTCacheOutput={archive}"


def ensure_start_cache(
    java: JavaRuntime,
    jars: Path,
    options: Sequence[str],
    record: Callable[[Path], None],
    progress: Progress,
) -> list[str]:
    """Returns the JVM options that use the archive, recording it first if need be (about 15 s, once).

    Args:
        java: Which Java will run; each version has an archive of its own.
        jars: The folder of the cached jars; the archive lies there too.
        options: The JVM's options: an archive fits one set of them, with any size of the heap.
        record: Runs a broker with `record_option(path)` until its end, raising SetupError when that fails.
        progress: Told about the recording.

    Returns:
        No option where this Java cannot, recording failed, or another process is recording now.
    """
    if java.major < MINIMUM_MAJOR:
        return []
    shape = [option for option in options if not option.startswith("-Xmx")]
    fingerprint = hashlib.sha256("\n".join([java.version, *shape]).encode()).hexdigest()[:16]
    archive = jars / f"start-{fingerprint}.aot"
    if not archive.exists():
        _record_once(archive, record, progress)
    return [f"-XX:AOTCache={archive}"] if archive.exists() else []


def _record_once(archive: Path, record: Callable[[Path], None], progress: Progress) -> None:
    failed = archive.with_suffix(".failed")
    lock = FolderLock(archive.with_suffix(".lock"), "the recording")
    if failed.exists():
        return
    try:
        lock.acquire()
    except SetupError:  # Another process is at it: this one start is a plain one.
        return
    scratch = archive.with_suffix(".recording")
    try:
        progress("recording Kafka's start, about 15 s, once: later starts take half the time")
        record(scratch)
        scratch.replace(archive)
    except (SetupError, OSError) as error:
        failed.write_text(f"{error}\n")
        progress(f"the recording failed, Kafka starts without it; see {failed}")
    finally:
        scratch.unlink(missing_ok=True)
        lock.release()
