"""Raw files: records that level 3 deferred, as they came from Kafka, beside the table that is owed them.

Owns the format. One file holds what one commit of one sink deferred, a *section* for each partition of the log: an
Arrow stream, zstd. Behind them stands an index with each section's checksum: damage is never taken for records.

    section … section, index (JSON), its CRC-32 and length (4 bytes each, big-endian), "K2RW"

An open ledger entry names the newest file that holds something of its range. That file's section names the one before
it, and so on back to the entry's start: the state, which is in every snapshot, grows with partitions and not with
commits. Files are never changed. Called by the sink, which writes, drains and removes them, by the query service and by
`k2 adopt-topic`. Nothing here decodes a record.
"""

from __future__ import annotations

import json
import re
import struct
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io import FileIO

from k2_core.errors import RawFileError
from k2_core.listing import listed
from k2_core.state import LedgerEntry
from k2_core.storage import storage_fault
from k2_core.types import Offset, Partition, TopicName

FORMAT: Final = 1
FOLDER: Final = ".raw"
"""Appended to the table's location: beside it and not below it, where another engine's `remove_orphan_files` would take
for litter what no snapshot's manifests name."""
SCHEMA: Final = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.dictionary(pa.int32(), pa.binary())),
        pa.field("value", pa.large_binary()),
    ]
)
"""A record of one partition, undecoded; its time is the log's, in UTC milliseconds."""
NO_TIME_MS: Final = -1
"""Of a record that has no time, as Kafka says it."""

_WITH_PARTITION: Final = pa.schema(
    [
        pa.field("partition", pa.int64(), nullable=False),
        *list(SCHEMA)[:2],
        pa.field("key", pa.binary()),
        SCHEMA.field(3),
    ]
)
_COMPRESSION_LEVEL: Final = 1
"""Of zstd: a tenth larger than level 3, at little more than half of the CPU."""
_TRAILER: Final = struct.Struct(">II4s")
_MAGIC: Final = b"K2RW"
_TAIL_BYTES: Final = 65_536
"""Read at once from a file's end: the index of 400 sections."""
_NAME: Final = re.compile(r"(\d{13})-[0-9a-f]{32}\.raw")
_INDEXES_KEPT: Final = 4_096

LogPartition = tuple[TopicName, Partition]


@dataclass(frozen=True, slots=True)
class Section:
    """What a file holds of one partition of the log.

    Args:
        topic: Where, with `partition`.
        partition: See `topic`.
        start: All records of [start, end) that level 3 deferred are in this file.
        end: See `start`.
        records: How many they are.
        previous: The file that holds what the partition's last open entry owed before `start`, or None.
    """

    topic: TopicName
    partition: Partition
    start: Offset
    end: Offset
    records: int
    previous: str | None = None

    @property
    def at(self) -> LogPartition:
        """Of which partition it is."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class _Stored:
    """A section and where its bytes are."""

    section: Section
    begin: int
    nbytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Link:
    """One file of an entry's chain."""

    name: str
    section: Section


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file that the store has taken: its name in the folder of raw files, and its bytes."""

    name: str
    nbytes: int


def created_ms(name: str) -> int | None:
    """Return when a file of this name was begun, in UTC milliseconds, or None if no raw file has such a name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def raw_rows(**columns: Any) -> pa.Table:
    """Return records of one topic as `RawFiles.write` takes them; `columns` are those of `SCHEMA`, and `partition`."""
    arrays = [pa.array(columns[field.name], field.type) for field in _WITH_PARTITION]
    return pa.Table.from_arrays(arrays, schema=_WITH_PARTITION)


class RawFiles:
    """The raw files of one table. Not thread-safe.

    Args:
        io: Of the table.
        location: Of the table.
    """

    def __init__(self, io: FileIO, location: str) -> None:
        self._io = io
        self._folder = location.rstrip("/") + FOLDER
        self._indexes: OrderedDict[str, tuple[_Stored, ...]] = OrderedDict()

    def path(self, name: str) -> str:
        """Return a file's URL."""
        return f"{self._folder}/{name}"

    def write(self, rows: Mapping[TopicName, pa.Table], sections: Sequence[Section], now_ms: int) -> RawFile:
        """Write a file, and return it once the store has taken it.

        Args:
            rows: By topic, see `raw_rows`; those of each partition are in the order of the log.
            sections: What they are, in the order of `rows` and of partitions; every row is in one.
            now_ms: UTC milliseconds.

        Raises:
            StorageUnavailableError: The warehouse takes no more, or is away; what was begun is removed if it can be.
        """
        name = f"{now_ms:013d}-{uuid.uuid4().hex}.raw"
        try:
            with self._io.new_output(self.path(name)).create(overwrite=True) as sink:
                nbytes = _write(sink, rows, sections)
        except OSError as error:
            self.delete(name)
            raise storage_fault(error, self.path(name), self._io.properties) from error
        return RawFile(name, nbytes)

    def delete(self, name: str) -> bool:
        """Remove a file, and return whether it is gone; what cannot be removed now is left to the next sweep."""
        self._indexes.pop(name, None)
        try:
            self._io.delete(self.path(name))
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def sizes(self) -> dict[str, int]:
        """Return bytes by name of the raw files that there are, whoever names them; other files are left out.

        Raises:
            SetupError: Files are reached by something that cannot list them.
            StorageUnavailableError: The warehouse is away.
        """
        found = ((one.base_name, int(one.size)) for one in listed(self._io, self._folder))
        return dict(sorted(one for one in found if created_ms(one[0]) is not None))

    def names(self) -> list[str]:
        """Return the names of `sizes`."""
        return list(self.sizes())

    def section(self, name: str, at: LogPartition) -> Section:
        """Return what a file holds of a partition.

        Raises:
            RawFileError: The file is missing or damaged, or holds nothing of the partition.
            StorageUnavailableError: The warehouse is away.
        """
        return self._stored(name, at).section

    def _stored(self, name: str, at: LogPartition) -> _Stored:
        for stored in self._index(name):
            if stored.section.at == at:
                return stored
        raise RawFileError(f"raw file {self.path(name)}: found nothing of {at[0]} partition {at[1]}, expected a part")

    def _index(self, name: str) -> tuple[_Stored, ...]:
        known = self._indexes.get(name)
        if known is None:
            with self._reading(name), self._open(name) as source:
                known = self._indexes[name] = _read_index(source)
            while len(self._indexes) > _INDEXES_KEPT:
                self._indexes.popitem(last=False)
        return known

    def read(self, name: str, at: LogPartition) -> pa.Table:
        """Return all records that a file holds of a partition, in the order of the log.

        Raises:
            RawFileError: The file is missing or damaged, or holds nothing of the partition.
            StorageUnavailableError: The warehouse is away.
        """
        stored = self._stored(name, at)
        with self._reading(name), self._open(name) as source:
            source.seek(stored.begin)
            block = source.read(stored.nbytes)
            if zlib.crc32(block) != stored.crc32:
                raise ValueError(f"{at[0]} partition {at[1]} is not what was written")
            return pa.ipc.open_stream(block).read_all()

    def _open(self, name: str) -> Any:
        if created_ms(name) is None:  # it comes from a table's state, and becomes a part of a path
            raise RawFileError(f"raw file {name!r}: found a name that no raw file has, expected MILLISECONDS-ID.raw")
        return self._io.new_input(self.path(name)).open(seekable=True)

    def _reading(self, name: str) -> _Reading:
        return _Reading(self.path(name), self._io.properties)

    def links(self, entry: LedgerEntry, start: Offset) -> Iterator[Link]:
        """Yield the files that hold what an entry owes from an offset on, newest first; each step opens one.

        Raises:
            RawFileError: A file is missing or damaged, or they do not reach back to `start`.
            StorageUnavailableError: The warehouse is away.
        """
        name, reached = entry.raw_file, entry.end
        while name is not None and reached > start:
            section = self.section(name, (entry.topic, entry.partition))
            if section.start >= reached:
                raise RawFileError(
                    f"raw file {self.path(name)}: found offsets from {section.start} of {entry.topic} partition "
                    f"{entry.partition}, expected some before {reached}"
                )
            yield Link(name, section)
            name, reached = section.previous, section.start
        if reached > start:
            raise RawFileError(
                f"raw files of {entry.topic} partition {entry.partition}: found them from offset {reached}, expected "
                f"[{start}, {entry.end}) of which {entry.records} records are owed to the table"
            )

    def owed(self, entry: LedgerEntry, link: Link, start: Offset) -> pa.Table:
        """Return the records of one file that an entry owes from an offset on.

        Raises:
            RawFileError: The file is missing or damaged.
            StorageUnavailableError: The warehouse is away.
        """
        rows = self.read(link.name, (entry.topic, entry.partition))
        keys = pa.array([symbol.encode() for symbol in entry.symbols], pa.binary())
        offsets = rows.column("offset")
        inside = pc.and_(pc.greater_equal(offsets, start), pc.less(offsets, entry.end))
        return rows.filter(pc.and_(inside, pc.is_in(rows.column("key").cast(pa.binary()), value_set=keys)))

    def count(self, entry: LedgerEntry) -> int:
        """Read all that an entry owes, and return how many records that is: as many as it says.

        Raises:
            RawFileError: A file is missing or damaged, or they do not hold what is owed.
            StorageUnavailableError: The warehouse is away.
        """
        found = sum(int(self.owed(entry, link, entry.start).num_rows) for link in self.links(entry, entry.start))
        self.require_all(entry, found)
        return found

    def require_all(self, entry: LedgerEntry, found: int) -> None:
        """Refuse raw files that hold another number of records than an entry owes.

        Raises:
            RawFileError: They do.
        """
        if found != entry.records:
            raise RawFileError(
                f"raw files up to {self.path(entry.raw_file or '')}: found {found} records of {entry.topic} partition "
                f"{entry.partition} in offsets [{entry.start}, {entry.end}), expected the {entry.records} that are "
                "owed to the table"
            )


class _Reading:
    """Translates what goes wrong inside: a store that is away is asked again, a file that is damaged is not."""

    def __init__(self, path: str, properties: Mapping[str, str]) -> None:
        self._path = path
        self._properties = properties

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise RawFileError(f"raw file {self._path}: found none, expected the one that the ledger names") from error
        if isinstance(error, OSError):
            raise storage_fault(error, self._path, self._properties) from error
        if isinstance(error, ValueError | KeyError | TypeError):  # pyarrow's own are ValueErrors, too
            raise RawFileError(f"raw file {self._path}: found it damaged ({error}), expected it as written") from error


def _write(sink: Any, rows: Mapping[TopicName, pa.Table], sections: Sequence[Section]) -> int:
    index, begin = [], 0
    for section, part in zip(sections, _parted(rows, sections), strict=True):
        block = _block(part)
        sink.write(block)
        stored = {"begin": begin, "bytes": len(block), "crc32": zlib.crc32(block)}
        index.append(_document(section) | stored)
        begin += len(block)
    text = json.dumps({"format": FORMAT, "sections": index}, separators=(",", ":")).encode()
    sink.write(text + _TRAILER.pack(zlib.crc32(text), len(text), _MAGIC))
    return begin + len(text) + _TRAILER.size


def _block(rows: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    codec = pa.Codec("zstd", compression_level=_COMPRESSION_LEVEL)
    with pa.ipc.new_stream(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(rows)
    return sink.getvalue()


def _parted(rows: Mapping[TopicName, pa.Table], sections: Sequence[Section]) -> Iterator[pa.Table]:
    """Yield the rows of each section: a stable sort by partition keeps the order of the log."""
    for topic, members in rows.items():
        order = np.argsort(members.column("partition").to_numpy().astype(np.uint16), kind="stable")  # a radix sort
        ordered, start = members.drop_columns("partition").combine_chunks().take(pa.array(order)), 0
        for section in [one for one in sections if one.topic == topic]:
            part = ordered.slice(start, section.records)
            start += section.records
            key = part.column("key").dictionary_encode()
            yield part.set_column(2, SCHEMA.field("key"), key).combine_chunks()


def _document(section: Section) -> dict[str, Any]:
    document: dict[str, Any] = {
        "topic": section.topic,
        "partition": section.partition,
        "from": section.start,
        "to": section.end,
        "records": section.records,
    }
    return document | ({"previous": section.previous} if section.previous else {})


def _read_index(source: Any) -> tuple[_Stored, ...]:
    size = source.size()
    source.seek(max(0, size - _TAIL_BYTES))
    tail = source.read()
    if len(tail) < _TRAILER.size:
        raise ValueError(f"found {size} bytes")
    crc32, length, magic = _TRAILER.unpack(tail[-_TRAILER.size :])
    if magic != _MAGIC or length + _TRAILER.size > size:
        raise ValueError("found another end than a raw file has")
    if length + _TRAILER.size > len(tail):
        source.seek(size - _TRAILER.size - length)
        tail = source.read()
    text = tail[-_TRAILER.size - length : -_TRAILER.size]
    if zlib.crc32(text) != crc32:
        raise ValueError("the index is not what was written")
    document = json.loads(text)
    if document["format"] != FORMAT:
        raise ValueError(f"found format {document['format']!r}, expected {FORMAT}; use a K2 that reads it")
    return tuple(map(_parse_stored, document["sections"]))


def _parse_stored(document: Mapping[str, Any]) -> _Stored:
    section = Section(
        TopicName(document["topic"]),
        Partition(document["partition"]),
        Offset(document["from"]),
        Offset(document["to"]),
        document["records"],
        document.get("previous"),
    )
    return _Stored(section, document["begin"], document["bytes"], document["crc32"])
