"""Jars: fetched once, checked against a lock each time, cached for every user of this account.

Owns the cache folder and the lock file `kafka.lock` beside this module (written by `k2_cli.stack.relock`). Called by
`k2_cli.stack.kafka`, for Kafka's. A lock holds the whole closure, so nothing is resolved at run time: each jar is one
download (`k2_cli.stack.maven`). A jar whose size or SHA-256 differs from the lock is never put on a class path.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from k2_cli.stack.maven import download
from k2_core.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Progress = Callable[[str], None]
"""Takes one line of text about a step that takes seconds."""

LOCK_FILE = Path(__file__).with_name("kafka.lock")
ATTEMPTS = 3
RETRY_WAIT_S = 1.0
"""Before the second attempt; doubled before each further one."""
_PARALLEL_DOWNLOADS = 6


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked artifact.

    Args:
        coordinate: `group:artifact:version`, and for another jar of the same artifact `:classifier`.
        size_bytes: Exact length.
        sha256: Lower-case hex digest.
    """

    coordinate: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Name in the cache folder, as Maven names the file."""
        _, *parts = self.coordinate.split(":")
        return f"{'-'.join(parts)}.jar"

    def matches(self, path: Path) -> bool:
        """Whether the file exists and is exactly this jar."""
        try:
            if path.stat().st_size != self.size_bytes:
                return False
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """Reads lines of `coordinate bytes sha256`; lines that start with # are comments.

    Raises:
        SetupError: A line has another shape: the installation is damaged.
    """
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.startswith("#"):
            continue
        try:
            coordinate, size, sha256 = line.split()
            jars.append(Jar(coordinate, int(size), sha256))
        except ValueError:
            raise SetupError(
                f"{path}:{number}: found {line!r}, expected `coordinate bytes sha256`; reinstall K2"
            ) from None
    return tuple(jars)


def cache_root() -> Path:
    """`$K2_CACHE_DIR`, else `k2` in `$XDG_CACHE_HOME` (XDG Base Directory: relative values are ignored) or ~/.cache.

    Raises:
        SetupError: The account has no home directory and neither variable is set.
    """
    if own := os.environ.get("K2_CACHE_DIR"):
        return Path(own).absolute()
    if (xdg := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():
        return xdg / "k2"
    try:
        return Path.home() / ".cache" / "k2"
    except RuntimeError as error:
        raise SetupError("found no home directory, expected HOME or K2_CACHE_DIR to name a folder") from error


def ensure_jars(progress: Progress = lambda _: None, *, jars: Sequence[Jar] | None = None, name: str = "Kafka") -> Path:
    """Returns a folder that holds exactly the locked jars, fetching what is missing or damaged.

    Checking 45 MB takes about 0.05 s. Several processes may call this at once: one fetches, the others wait.

    Args:
        progress: Told about every step that takes seconds.
        jars: What the folder must hold; None reads the shipped lock.
        name: What they are the jars of.

    Raises:
        SetupError: A jar could not be fetched, differs from the lock, or the cache cannot be written.
    """
    wanted = read_lock() if jars is None else tuple(jars)
    folder = cache_root() / f"{name.lower().replace(' ', '-')}-{_content_version(wanted)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _unfit(wanted, folder):
            with _exclusive(folder / ".lock", name, progress):
                _fetch(_unfit(wanted, folder), folder, name, progress)
    except OSError as error:
        raise SetupError(
            f"cannot keep the jars of {name} in {folder}: {error.strerror or error}; set K2_CACHE_DIR to a folder "
            f"with {sum(jar.size_bytes for jar in wanted) // 1_000_000} MB free"
        ) from error
    return folder


def _content_version(jars: Sequence[Jar]) -> str:
    text = "\n".join(sorted(f"{jar.coordinate} {jar.sha256}" for jar in jars))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _unfit(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fits = pool.map(lambda jar: jar.matches(folder / jar.file_name), jars)
        return [jar for jar, fit in zip(jars, fits, strict=True) if not fit]


@contextmanager
def _exclusive(path: Path, name: str, progress: Progress) -> Iterator[None]:
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process is fetching the jars of {name}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch(jars: Sequence[Jar], folder: Path, name: str, progress: Progress) -> None:
    if not jars:
        return
    for leftover in folder.glob("fetch-*"):  # of a process that was killed: the lock is ours
        shutil.rmtree(leftover)
    for recording in folder.glob("start-*.aot"):  # of files that are replaced now (k2_cli.stack.start_cache)
        recording.unlink()
    total_mb = sum(jar.size_bytes for jar in jars) / 1e6
    progress(f"fetching {name}: {len(jars)} jars, {total_mb:.0f} MB, once")
    with (
        tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch,
        ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool,
    ):
        downloads = {pool.submit(_fetch_one, jar, folder, Path(scratch)): jar for jar in jars}
        done_mb, shown_tenths = 0.0, 0
        try:
            for download in as_completed(downloads):
                download.result()
                done_mb += downloads[download].size_bytes / 1e6
                if (tenths := int(10 * done_mb / total_mb)) > shown_tenths:
                    shown_tenths = tenths
                    progress(f"fetching {name}: {done_mb:.0f} of {total_mb:.0f} MB")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(jar: Jar, folder: Path, scratch: Path) -> None:
    """Puts one verified jar into place; the rename makes it appear whole or not at all."""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(RETRY_WAIT_S * 2 ** (attempt - 1))
        repository = scratch / f"{jar.file_name}.{attempt}"
        try:
            path = download(jar.coordinate, repository)
        # jgo says RuntimeError for "in no repository"; requests' errors are OSErrors.
        except (OSError, RuntimeError) as error:
            problem = f"{error}"
            continue
        if jar.matches(path):
            path.replace(folder / jar.file_name)
            return
        problem = f"found {path.stat().st_size} bytes of other content, expected {jar.size_bytes} bytes as locked"
    raise SetupError(
        f"could not fetch {jar.coordinate} in {ATTEMPTS} attempts: {problem}; is the Maven repository reachable?"
    )
