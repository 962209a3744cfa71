"""Files of a disk and of a real S3 server as paths that stay while they are needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from pyiceberg.io import FileIO, load_file_io

from k2_core.config import ServiceSettings
from k2_core.errors import QueryError, RetryableError, SpecError, StorageUnavailableError
from k2_core.storage import file_properties
from k2_query.budget import Budget
from k2_query.file_index import FileStats
from k2_query.files import CachedFiles, LocalFiles, open_files
from support.s3 import ACCESS_KEY, SIGNING_KEY, LocalS3

LIMIT = 10_000


def stats(path: str, nbytes: int) -> FileStats:
    return FileStats(path, 1, nbytes, (), None, ("A", "A"), (0, 0), (0, 0))


class Store:
    """A bucket, a cache over it, and how often it was asked."""

    def __init__(self, s3: LocalS3, folder: Path) -> None:
        self.url = f"s3://{s3.bucket()}/w"
        settings = ServiceSettings(
            warehouse=self.url,
            s3_endpoint=s3.endpoint,
            s3_access_key=SecretStr(ACCESS_KEY),
            s3_secret_key=SecretStr(SIGNING_KEY),
        )
        self.properties = file_properties(settings)
        self.folder = folder
        self.fetched: list[int] = []
        self.files = self.open()

    def open(self) -> CachedFiles:
        return CachedFiles(self.io, self.folder, LIMIT, self.fetched.append)

    def io(self) -> FileIO:
        return load_file_io(self.properties, self.url)

    def put(self, name: str, nbytes: int) -> FileStats:
        path = f"{self.url}/{name}"
        with self.io().new_output(path).create(overwrite=True) as sink:
            sink.write(name[-1].encode() * nbytes)
        return stats(path, nbytes)

    def read(self, *files: FileStats) -> list[bytes]:
        with self.files.hold(files, Budget(20)) as paths:
            return [Path(path).read_bytes() for path in paths]


@pytest.fixture
def store(s3: LocalS3, tmp_path: Path) -> Iterator[Store]:
    made = Store(s3, tmp_path / "cache")
    with closing(made.files):
        yield made


class TestLocal:
    def test_a_file_is_where_it_is(self) -> None:
        files = LocalFiles("file:///w")
        assert files.root == Path("/w")
        with closing(files), files.hold([stats("file:///w/a", 1)], Budget(1)) as paths:
            assert paths == ["/w/a"]
        assert list(files.split([stats("file:///w/a", 1)])) == [[stats("file:///w/a", 1)]]

    def test_other_storage_is_refused_in_one_line(self) -> None:
        with pytest.raises(SpecError, match="K2_WAREHOUSE: found 'gs://b/x', expected a file:// or s3:// URL"):
            open_files("gs://b/x", lambda: load_file_io({}), Path("/nowhere"), 1, lambda _: None)


class TestCache:
    def test_a_file_is_fetched_once_however_many_ask(self, store: Store) -> None:
        file = store.put("a", 3_000)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: store.read(file), range(24)))
        assert found == [[b"a" * 3_000]] * 24
        assert store.fetched == [3_000]

    def test_the_least_recently_used_goes_first_and_the_limit_holds(self, store: Store) -> None:
        a, b, c = (store.put(name, 4_000) for name in "abc")
        store.read(a, b)
        store.read(a)
        store.read(c)
        assert store.files.nbytes == 8_000
        assert len(list(store.files.root.iterdir())) == 2
        assert store.read(a) == [b"a" * 4_000]
        assert len(store.fetched) == 3
        store.read(b)
        assert len(store.fetched) == 4

    def test_what_a_query_holds_stays_and_others_wait_for_room(self, store: Store) -> None:
        a, b = store.put("a", 6_000), store.put("b", 6_000)
        entered, leave = threading.Event(), threading.Event()

        def hold() -> bytes:
            with store.files.hold([a], Budget(20)) as [path]:
                entered.set()
                assert leave.wait(20)
                return Path(path).read_bytes()

        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(hold)
            assert entered.wait(20)
            with pytest.raises(RetryableError, match="found no end"), store.files.hold([b], Budget(0.2)):
                pass
            leave.set()
            assert held.result(20) == b"a" * 6_000
        assert store.read(b) == [b"b" * 6_000]

    def test_more_than_fits_is_refused_and_can_be_split(self, store: Store) -> None:
        files = [store.put(f"{n}", 2_000) for n in range(6)]
        with pytest.raises(QueryError, match="found a window of 12000 bytes of files, expected at most 10000"):
            store.read(*files)
        portions = list(store.files.split(files))
        assert [len(portion) for portion in portions] == [2, 2, 2]
        assert [file for portion in portions for file in portion] == files
        assert list(store.files.split([])) == []

    def test_what_cannot_be_had_is_said_and_tried_again(self, store: Store) -> None:
        missing = stats(f"{store.url}/later", 10)
        with pytest.raises(StorageUnavailableError, match=r"found no s3://.*/later"):
            store.read(missing)
        store.put("later", 10)
        assert store.read(missing) == [b"r" * 10]

    def test_a_file_of_another_size_is_no_answer(self, store: Store) -> None:
        file = store.put("a", 10)
        with pytest.raises(StorageUnavailableError, match=r"found 10 bytes of s3://.*, expected 11"):
            store.read(stats(file.path, 11))
        assert list(store.files.root.iterdir()) == []

    def test_an_outage_ends_when_the_server_is_back(self, store: Store, s3: LocalS3) -> None:
        kept, new = store.put("a", 10), store.put("b", 10)
        store.read(kept)
        s3.stop()
        try:
            assert store.read(kept) == [b"a" * 10]
            with pytest.raises(StorageUnavailableError, match="found no answer"):
                store.read(new)
        finally:
            s3.start()
        assert store.read(new) == [b"b" * 10]

    def test_a_disk_that_takes_nothing(self, store: Store) -> None:
        file = store.put("a", 10)
        store.files.root.rmdir()
        with pytest.raises(StorageUnavailableError, match=r"cache: found .*, expected room in"):
            store.read(file)

    def test_a_wait_ends_with_the_budget(self, store: Store) -> None:
        release = threading.Event()
        open_io = store.files._open_io

        def slow() -> FileIO:
            assert release.wait(20)
            return open_io()

        store.files._open_io = slow
        file, began = store.put("a", 10), time.monotonic()
        with pytest.raises(RetryableError, match="found no end"), store.files.hold([file], Budget(0.2)):
            pass
        assert time.monotonic() - began < 5
        release.set()
        assert store.read(file) == [b"a" * 10]

    def test_the_end_leaves_nothing_and_a_crash_is_cleared_up_by_the_next(self, store: Store) -> None:
        crashed = store.open()
        crashed.root.joinpath("x.parquet").write_bytes(b"left")
        crashed._lock.close()  # as the system does when a process is gone
        second = store.open()
        assert not crashed.root.exists()
        assert store.files.root.exists()
        second.close()
        store.files.close()
        assert list(store.folder.iterdir()) == []
