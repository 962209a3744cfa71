"""Raw files on a real disk: what was written is read, the way back is found, and damage is never taken for records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_core.errors import RawFileError, SetupError, StorageUnavailableError
from k2_core.raw_files import FOLDER, SCHEMA, RawFiles, Section, created_ms, raw_rows
from k2_core.state import LedgerEntry
from k2_core.types import Offset, Partition, TopicName

TOPIC, OTHER = TopicName("a.trades"), TopicName("b.trades")
NOW_MS = 1_764_088_369_000
KEYS = (b"A", b"B", None)


@pytest.fixture
def raw(tmp_path: Path) -> RawFiles:
    return RawFiles(PyArrowFileIO(), f"file://{tmp_path}/warehouse/market/trades/")


def value(partition: int, offset: int) -> bytes | None:
    return None if offset % 7 == 6 else b"value %d/%d" % (partition, offset)


def rows(*positions: tuple[int, int]) -> object:
    return raw_rows(
        partition=[partition for partition, _ in positions],
        offset=[offset for _, offset in positions],
        timestamp_ms=[NOW_MS + offset for _, offset in positions],
        key=[KEYS[offset % 3] for _, offset in positions],
        value=[value(*position) for position in positions],
    )


def section(start: int, end: int, records: int, partition: int = 0, previous: str | None = None) -> Section:
    return Section(TOPIC, Partition(partition), Offset(start), Offset(end), records, previous)


def write(raw: RawFiles, start: int, end: int, previous: str | None = None) -> str:
    positions = [(0, offset) for offset in range(start, end)]
    return raw.write({TOPIC: rows(*positions)}, [section(start, end, end - start, previous=previous)], NOW_MS).name


def entry(start: int, end: int, raw_file: str, symbols: Sequence[str] = ("A", "B")) -> LedgerEntry:
    owed = sum(KEYS[offset % 3] in [one.encode() for one in symbols] for offset in range(start, end))
    at = (TOPIC, Partition(0), Offset(start), Offset(end))
    return LedgerEntry(*at, tuple(symbols), 3, "load", owed, raw_file=raw_file)


def disk(raw: RawFiles, name: str) -> Path:
    return Path(raw.path(name).removeprefix("file://"))


def test_each_partition_is_read_as_it_was_written(raw: RawFiles) -> None:
    mixed = [(1, 4), (0, 10), (1, 5), (0, 11), (0, 14)]
    sections = [
        section(10, 20, 3),
        section(0, 6, 2, partition=1, previous="before"),
        Section(OTHER, Partition(0), Offset(7), Offset(8), 1),
    ]
    written = raw.write({TOPIC: rows(*mixed), OTHER: rows((0, 7))}, sections, NOW_MS)
    name = written.name
    assert created_ms(name) == NOW_MS
    assert raw.names() == [name]
    assert raw.sizes() == {name: written.nbytes} == {name: disk(raw, name).stat().st_size}
    fresh = RawFiles(PyArrowFileIO(), raw.path("").removesuffix(f"{FOLDER}/"))
    for one in sections:
        assert fresh.section(name, one.at) == one
    found = fresh.read(name, (TOPIC, Partition(0)))
    assert found.schema == SCHEMA
    assert found.to_pylist() == [
        {
            "offset": offset,
            "timestamp_ms": NOW_MS + offset,
            "key": KEYS[offset % 3],
            "value": value(0, offset),
        }
        for offset in (10, 11, 14)
    ]
    assert fresh.read(name, (TOPIC, Partition(1))).column("offset").to_pylist() == [4, 5]
    assert fresh.read(name, (OTHER, Partition(0))).column("offset").to_pylist() == [7]


def test_it_lies_beside_the_table_and_not_below_it(raw: RawFiles, tmp_path: Path) -> None:
    name = write(raw, 0, 3)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.raw/*.raw")] == [
        f"warehouse/market/trades.raw/{name}"
    ]


def test_only_raw_files_are_listed_and_a_folder_that_is_not_there_has_none(raw: RawFiles) -> None:
    assert raw.names() == []
    name = write(raw, 0, 3)
    for other in ("notes.txt", "1764088369000-x.raw", f"x{name}"):
        disk(raw, other).write_text("somebody else's")
    assert raw.names() == [name]
    assert raw.delete(name)
    assert raw.delete(name)
    assert raw.names() == []


def test_what_cannot_be_removed_is_said(raw: RawFiles) -> None:
    disk(raw, "full.parquet").mkdir(parents=True)
    assert not raw.delete("full.parquet")


def test_files_that_nothing_can_list_are_refused() -> None:
    class Other(PyArrowFileIO):
        pass

    assert RawFiles(Other(), "file:///nowhere/at/all").names() == []
    with pytest.raises(SetupError, match="expected PyArrowFileIO"):
        RawFiles(object.__new__(_NoListing), "file:///nowhere").names()


class _NoListing(FileIO):
    def new_input(self, location: str) -> object:  # type: ignore[override]
        raise AssertionError(location)

    def new_output(self, location: str) -> object:  # type: ignore[override]
        raise AssertionError(location)

    def delete(self, location: object) -> None:
        raise AssertionError(location)


def test_a_folder_that_is_a_file_takes_nothing(raw: RawFiles) -> None:
    folder = disk(raw, "x").parent
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    with pytest.raises(StorageUnavailableError, match="expected room to write"):
        write(raw, 0, 3)


def test_the_way_back_goes_from_the_newest_to_the_start(raw: RawFiles) -> None:
    first = write(raw, 0, 10)
    second = write(raw, 10, 20, first)
    third = write(raw, 25, 30, second)  # nothing waited in [20, 25)
    owed = entry(5, 40, third)
    links = list(raw.links(owed, owed.start))
    assert [link.name for link in links] == [third, second, first]
    assert [link.name for link in raw.links(owed, Offset(10))] == [third, second]
    assert [link.name for link in raw.links(owed, Offset(28))] == [third]
    assert list(raw.links(owed, Offset(40))) == []
    found = [
        offset for link in reversed(links) for offset in raw.owed(owed, link, owed.start).column("offset").to_pylist()
    ]
    expected = [number for number in (*range(5, 20), *range(25, 30)) if number % 3 < 2]
    assert found == expected
    alone = entry(0, 12, second, ["B"])
    link = next(raw.links(alone, alone.start))
    assert raw.owed(alone, link, Offset(0)).column("offset").to_pylist() == [10]


def test_a_way_back_that_ends_too_early_is_said_with_what_is_owed(raw: RawFiles) -> None:
    name = write(raw, 10, 20)
    with pytest.raises(RawFileError, match=r"found them from offset 10, expected \[5, 20\) of which 10 records"):
        list(raw.links(entry(5, 20, name), Offset(5)))
    with pytest.raises(RawFileError, match=r"found offsets from 10 .*, expected some before 8"):
        list(raw.links(entry(5, 8, name), Offset(5)))


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd", "s3://lake/raw/1-30000.avro", "1764088369000-x.raw"],
    ids=["up", "other", "short"],
)
def test_a_name_that_no_raw_file_has_is_no_path(raw: RawFiles, name: str) -> None:
    with pytest.raises(RawFileError, match="found a name that no raw file has"):
        raw.read(name, (TOPIC, Partition(0)))


def test_a_partition_that_a_file_has_nothing_of_is_said(raw: RawFiles) -> None:
    name = write(raw, 0, 3)
    with pytest.raises(RawFileError, match=r"found nothing of a\.trades partition 9"):
        raw.section(name, (TOPIC, Partition(9)))


def test_a_file_that_is_gone_is_said(raw: RawFiles) -> None:
    name = write(raw, 0, 3)
    assert raw.section(name, (TOPIC, Partition(0))).records == 3
    disk(raw, name).unlink()
    with pytest.raises(RawFileError, match=rf"raw file .*{name}: found none, expected the one that the ledger names"):
        raw.read(name, (TOPIC, Partition(0)))


def test_every_byte_that_is_changed_is_noticed(raw: RawFiles) -> None:
    """Each file that is damaged anywhere cannot be read."""
    name = write(raw, 0, 40)
    at, whole = (TOPIC, Partition(0)), disk(raw, name).read_bytes()
    refused = 0
    for place in range(len(whole)):
        disk(raw, name).write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        fresh = RawFiles(PyArrowFileIO(), raw.path("").removesuffix(f"{FOLDER}/"))
        try:
            fresh.read(name, at)
        except RawFileError:
            refused += 1
    assert refused == len(whole)


@pytest.mark.parametrize("kept", [0, 3, 200])
def test_a_file_that_ends_too_early_is_damaged(raw: RawFiles, kept: int) -> None:
    name = write(raw, 0, 40)
    disk(raw, name).write_bytes(disk(raw, name).read_bytes()[:kept])
    with pytest.raises(RawFileError, match="found it damaged"):
        raw.read(name, (TOPIC, Partition(0)))


def test_an_index_longer_than_what_is_read_at_once_is_read(raw: RawFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_core.raw_files._TAIL_BYTES", 40)
    assert raw.read(write(raw, 0, 3), (TOPIC, Partition(0))).num_rows == 3


def test_a_store_that_is_away_is_no_damage(raw: RawFiles) -> None:
    name = write(raw, 0, 3)
    disk(raw, name).unlink()
    disk(raw, name).mkdir()  # the system says no, with a number
    with pytest.raises(StorageUnavailableError):
        raw.read(name, (TOPIC, Partition(0)))
    folder = disk(raw, name).parent
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder")
    with pytest.raises(StorageUnavailableError):
        raw.names()


def test_a_newer_format_is_named(raw: RawFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("k2_core.raw_files.FORMAT", 2)
        name = write(raw, 0, 3)
    with pytest.raises(RawFileError, match="found format 2, expected 1; use a K2 that reads it"):
        raw.read(name, (TOPIC, Partition(0)))


def test_the_memory_of_indexes_is_bounded(raw: RawFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_core.raw_files._INDEXES_KEPT", 2)
    for start in range(4):
        raw.section(write(raw, start, start + 1), (TOPIC, Partition(0)))
    assert len(raw._indexes) == 2
