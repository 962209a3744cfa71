"""Data files as paths that DuckDB can open: those of a disk as they are, those of object storage from a cache.

Data files are immutable and, between compactions, small (a commit's rows of one bucket), so a whole file is fetched
once and read from disk ever after; ranges over HTTP would cost each query several round trips a file, see decision 12.
Called by the engine in the threads of queries. Never writes to the warehouse.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from pyiceberg.io import FileIO

from k2_core.errors import QueryError, SpecError, StorageUnavailableError
from k2_core.storage import is_s3, storage_fault
from k2_query.budget import Budget
from k2_query.file_index import FileStats

PARALLEL_FETCHES: Final = 16
"""Small files cost round trips, not bandwidth; some 64 MB of buffers at most."""
_COPY_BYTES: Final = 1024 * 1024
_FILE: Final = "file://"


class Files(Protocol):
    """Where the engine gets files from."""

    root: Path
    """The only folder that DuckDB may read."""

    def hold(self, files: Sequence[FileStats], budget: Budget) -> AbstractContextManager[list[str]]:
        """Return local paths of these files, in their order, that stay while the block runs.

        Raises:
            StorageUnavailableError: One cannot be had now.
            QueryError: They are more than can be held at all.
            RetryableError: The budget's time is over.
        """

    def split(self, files: Sequence[FileStats]) -> Iterator[Sequence[FileStats]]:
        """Return the files in portions that can be held one after the other."""

    def close(self) -> None:
        """Remove what was kept only for this process."""


class LocalFiles:
    """Files on a disk.

    Args:
        warehouse: The `file://` URL, or path, below which all of them lie.

    Raises:
        SpecError: It is a URL of another kind.
    """

    def __init__(self, warehouse: str) -> None:
        if "://" in warehouse.removeprefix(_FILE):
            raise SpecError("K2_WAREHOUSE", repr(warehouse), "a file:// or s3:// URL")
        self.root = Path(warehouse.removeprefix(_FILE)).absolute()

    @contextlib.contextmanager
    def hold(self, files: Sequence[FileStats], budget: Budget) -> Iterator[list[str]]:  # noqa: ARG002  # nothing to wait for
        """See `Files.hold`."""
        yield [file.path.removeprefix(_FILE) for file in files]

    def split(self, files: Sequence[FileStats]) -> Iterator[Sequence[FileStats]]:
        """See `Files.split`."""
        yield files

    def close(self) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class _Entry:
    """One file of the cache: who holds it, and how its fetch ended."""

    nbytes: int
    fetched: Future[None]
    holders: int = 0

    @property
    def failed(self) -> bool:
        """Whether its fetch ended without a file."""
        return self.fetched.done() and (self.fetched.cancelled() or self.fetched.exception() is not None)


class CachedFiles:
    """Whole files of object storage on a local disk: bounded, least recently used out first, each fetched once.

    Each process has a folder of its own below `directory`; what processes that are gone left there is removed first, as
    a pod's temporary folder outlives a crash of its container.

    Args:
        open_io: Makes the warehouse's FileIO; called by the first fetch.
        directory: Made if need be.
        limit_bytes: Of all files together, those in use and those under way included.
        fetched: Told the size of each file that was fetched.

    Raises:
        SpecError: The folder cannot be made.
    """

    def __init__(
        self, open_io: Callable[[], FileIO], directory: Path, limit_bytes: int, fetched: Callable[[int], None]
    ) -> None:
        self._open_io = open_io
        self._io: FileIO | None = None
        self._limit = limit_bytes
        self._told = fetched
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changed = threading.Condition()
        self.nbytes = 0
        self.root, self._lock = _own_folder(directory)
        self._fetchers = ThreadPoolExecutor(PARALLEL_FETCHES, thread_name_prefix="fetch")

    @contextlib.contextmanager
    def hold(self, files: Sequence[FileStats], budget: Budget) -> Iterator[list[str]]:
        """See `Files.hold`."""
        wanted = {file.path: file.nbytes for file in files}
        entries = self._claim(wanted, budget)
        try:
            for entry in entries.values():
                self._await(entry, budget)
            yield [str(self._local(file.path)) for file in files]
        finally:
            self._release(entries)

    def split(self, files: Sequence[FileStats]) -> Iterator[Sequence[FileStats]]:
        """See `Files.split`; portions of half the limit leave room for other queries."""
        portion: list[FileStats] = []
        for file in files:
            if portion and sum(one.nbytes for one in portion) + file.nbytes > self._limit // 2:
                yield portion
                portion = []
            portion.append(file)
        if portion:
            yield portion

    def close(self) -> None:
        """Remove the folder."""
        self._fetchers.shutdown(cancel_futures=True)
        shutil.rmtree(self.root, ignore_errors=True)
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def _claim(self, wanted: Mapping[str, int], budget: Budget) -> dict[str, _Entry]:
        """Hold files, all of them or none, so that queries cannot wait for each other in a circle."""
        total = sum(wanted.values())
        if total > self._limit:
            raise QueryError(
                "end",
                f"found a window of {total} bytes of files, expected at most {self._limit} (K2_QUERY_CACHE_BYTES)",
            )
        with self._changed:
            while not self._make_room(wanted):
                budget.check()
                self._changed.wait(min(budget.remaining_s, 0.1))
            return {path: self._hold_one(path, nbytes) for path, nbytes in wanted.items()}

    def _make_room(self, wanted: Mapping[str, int]) -> bool:
        """Drop what failed and, oldest first, what nobody uses until the files fit; returns whether they do."""
        for path in [path for path, entry in self._entries.items() if entry.failed and not entry.holders]:
            self._drop(path)
        need = sum(nbytes for path, nbytes in wanted.items() if path not in self._entries)
        for path, entry in list(self._entries.items()):
            if self.nbytes + need <= self._limit:
                break
            if not entry.holders and entry.fetched.done() and path not in wanted:
                self._drop(path)
        return self.nbytes + need <= self._limit

    def _hold_one(self, path: str, nbytes: int) -> _Entry:
        entry = self._entries.get(path)
        if entry is None:
            entry = self._entries[path] = _Entry(nbytes, self._fetchers.submit(self._fetch, path, nbytes))
            self.nbytes += nbytes
        self._entries.move_to_end(path)
        entry.holders += 1
        return entry

    def _release(self, entries: Mapping[str, _Entry]) -> None:
        with self._changed:
            for entry in entries.values():
                entry.holders -= 1
            self._changed.notify_all()

    def _drop(self, path: str) -> None:
        entry = self._entries.pop(path)
        self.nbytes -= entry.nbytes
        self._local(path).unlink(missing_ok=True)

    def _await(self, entry: _Entry, budget: Budget) -> None:
        while True:
            budget.check()
            with contextlib.suppress(FutureTimeoutError):
                return entry.fetched.result(min(budget.remaining_s, 0.1))

    def _fetch(self, path: str, nbytes: int) -> None:
        self._io = self._io or self._open_io()
        target = self._local(path)
        partial = target.with_suffix(".part")
        try:
            with self._io.new_input(path).open() as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink, _COPY_BYTES)
            found = partial.stat().st_size
            if found != nbytes:
                raise StorageUnavailableError(f"warehouse: found {found} bytes of {path}, expected {nbytes}")
            partial.rename(target)
        except OSError as error:
            if error.filename is not None and str(self.root) in str(error.filename):
                raise StorageUnavailableError(f"cache: found {error}, expected room in {self.root}") from error
            raise storage_fault(error, path, self._io.properties) from error
        finally:
            partial.unlink(missing_ok=True)
        self._told(nbytes)

    def _local(self, path: str) -> Path:
        """Return a name that has no character which DuckDB would take for a pattern, and is nobody else's."""
        return self.root / f"{hashlib.sha256(path.encode()).hexdigest()[:40]}.parquet"


def _own_folder(directory: Path) -> tuple[Path, IO[bytes]]:
    """Return a folder that is locked by this process, after removing those that nobody locks any more."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob("*.lock"):
            with left.open("rb") as stream, contextlib.suppress(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=directory)).absolute()
        lock = folder.with_name(f"{folder.name}.lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SpecError("K2_QUERY_CACHE_DIR", f"{directory} ({error.strerror})", "a folder to write to") from error
    return folder, lock


def open_files(
    warehouse: str, open_io: Callable[[], FileIO], directory: Path, limit_bytes: int, fetched: Callable[[int], None]
) -> Files:
    """Return what fits the warehouse. See `LocalFiles` and `CachedFiles`."""
    return CachedFiles(open_io, directory, limit_bytes, fetched) if is_s3(warehouse) else LocalFiles(warehouse)
