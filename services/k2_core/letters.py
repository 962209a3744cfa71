"""Dead letters as rows: what a letter's headers say, the table that holds them, and how far its topics were read.

A letter's identity is where its bytes stood first: in a topic that is a position of the log, in a file a row. A copy,
as a sink makes that died before its commit, has the same. What has no such place, as a message from an exchange, is
known by its position among the letters. Called by `k2_sink.letters`. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final

import pyarrow as pa
from pyiceberg.schema import Schema

from k2_core.errors import StateError
from k2_core.records import UTC_MICROSECONDS, iceberg_schema, utc_time
from k2_core.topics import (
    DATASET_HEADER,
    DETAIL_HEADER,
    DIGEST_HEADER,
    FILE_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    ROW_HEADER,
    SOURCE_HEADER,
    TOPIC_HEADER,
    TOPIC_ID_HEADER,
)
from k2_core.types import Offset, Partition, TopicId, TopicName

READ_KEY: Final = "k2.read"
"""The property of the table that says how far the dead-letter topics were read."""
READ_FORMAT: Final = 1
REMOVED_REASON: Final = "removed_unread"
"""Reason of a row that stands for letters which the topic's retention took before they were read."""

_INT32_END: Final = 2**31
_INT64_END: Final = 2**63
_INT64_DIGITS: Final = 19

_COLUMNS: Final[tuple[tuple[pa.Field, str], ...]] = (
    (
        pa.field("letter_id", pa.string(), nullable=False),
        "Where the bytes stood first: each place is in the table once",
    ),
    (pa.field("reason", pa.string()), "Why it is no record; removed_unread: letters that nobody can read any more"),
    (pa.field("detail", pa.string()), "What was found and what was expected"),
    (pa.field("value", pa.binary()), "The original bytes; null: there were none"),
    (pa.field("topic", pa.string()), "Where a sink found them: the topic; null for letters of an ingest"),
    (pa.field("topic_id", pa.string()), "The UUID of that topic"),
    (pa.field("kafka_partition", pa.int32()), "The partition there"),
    (pa.field("kafka_offset", pa.int64()), "The offset there"),
    (pa.field("source", pa.string()), "Where an ingest found them: the source's name; null for letters of a sink"),
    (pa.field("dataset", pa.string()), "Of a file's line: the dataset"),
    (pa.field("file", pa.string()), "Of a file's line: the path"),
    (pa.field("digest", pa.string()), "Of a file's line: the file's digest"),
    (pa.field("row", pa.int64()), "Of a file's line: the row"),
    (pa.field("letter_topic", pa.string(), nullable=False), "The dead-letter topic"),
    (pa.field("letter_topic_id", pa.string(), nullable=False), "Its UUID"),
    (pa.field("letter_partition", pa.int32(), nullable=False), "The letter's partition in it"),
    (pa.field("letter_offset", pa.int64(), nullable=False), "The letter's offset in it"),
    (
        pa.field("letter_end", pa.int64(), nullable=False),
        "The offset after it, or after the last that is removed_unread",
    ),
    (pa.field("written_at", UTC_MICROSECONDS), "When the letter was written; of an ingest's: when its bytes came"),
)
LETTERS: Final = pa.schema([one for one, _ in _COLUMNS])
"""The Arrow form of a row of the table."""


@dataclass(frozen=True)
class LetterTable:
    """The table `dlq`: a row for each dead letter, copies left out."""

    name: ClassVar[str] = "dlq"
    partitioned: ClassVar[bool] = False

    @cached_property
    def iceberg_schema(self) -> Schema:
        """The Iceberg form of a row."""
        return iceberg_schema(LETTERS, {one.name: meaning for one, meaning in _COLUMNS})


DLQ: Final = LetterTable()


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a dead-letter topic.

    Args:
        topic: Its name.
        topic_id: Its UUID.
        partition: In it.
        offset: In that.
    """

    topic: TopicName
    topic_id: TopicId
    partition: Partition
    offset: Offset


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of a dead-letter topic.

    Args:
        place: Where it stands.
        headers: As they came; of several with one name, the last.
        value: As it came.
        time_ms: The message's, UTC milliseconds since 1970.
    """

    place: Place
    headers: Mapping[str, str | bytes | None]
    value: bytes | None
    time_ms: int


@dataclass(frozen=True, slots=True)
class Read:
    """How far dead-letter topics were read: the next offset, by topic id and partition.

    A topic that was deleted and made again has another id, and is read from its beginning.
    """

    positions: Mapping[tuple[TopicId, Partition], Offset] = field(default_factory=dict)

    def dump(self) -> str:
        """Return it as the property's text."""
        topics: dict[str, dict[str, int]] = {}
        for (topic_id, partition), offset in sorted(self.positions.items()):
            topics.setdefault(topic_id, {})[str(partition)] = offset
        return json.dumps({"format": READ_FORMAT, "topics": topics})

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Read:
        """Return how far was read, by the properties of the table.

        Raises:
            StateError: The property holds something else.
        """
        text = properties.get(READ_KEY)
        if text is None:
            return cls()
        try:
            found = json.loads(text)
            topics = {READ_FORMAT: found["topics"]}[found["format"]]
            positions = {
                (TopicId(topic_id), Partition(int(partition))): Offset(int(offset))
                for topic_id, partitions in topics.items()
                for partition, offset in partitions.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"{READ_KEY}: found {text[:80]!r}, expected format {READ_FORMAT} with topics; "
                "drop the table dlq to have all letters read anew that the topics still have"
            ) from error
        return cls(positions)


def letter_rows(letters: Iterable[Letter]) -> pa.Table:
    """Return letters as rows, in the form LETTERS."""
    return pa.Table.from_pylist([_row(letter) for letter in letters], LETTERS)


def removed_row(place: Place, end: Offset) -> pa.Table:
    """Return the row that stands for letters which were removed before they were read.

    Args:
        place: Of the first of them.
        end: The offset after the last.
    """
    detail = f"found the topic from offset {end}, expected it from {place.offset}: its retention was faster"
    row = {"letter_id": f"removed/{_position(place)}", "reason": REMOVED_REASON, "detail": detail}
    return pa.Table.from_pylist([row | _stands(place) | {"letter_end": end}], LETTERS)


def _row(letter: Letter) -> dict[str, Any]:
    headers = letter.headers
    said = {name: _text(headers.get(header)) for name, header in _TEXTS.items()}
    numbers = {name: _number(headers.get(header), end) for name, (header, end) in _NUMBERS.items()}
    found = said | numbers
    times = {"written_at": utc_time(letter.time_ms)}
    return {
        "letter_id": _letter_id(found, letter.place),
        **found,
        "value": letter.value,
        **_stands(letter.place),
    } | times


def _letter_id(found: Mapping[str, Any], place: Place) -> str:
    log = [found[name] for name in ("topic_id", "kafka_partition", "kafka_offset")]
    line = [found[name] for name in ("dataset", "digest", "row")]
    for kind, parts in (("log", log), ("file", line)):
        if None not in parts:
            return "/".join(map(str, (kind, *parts)))
    return f"letter/{_position(place)}"


def _stands(place: Place) -> dict[str, Any]:
    return {
        "letter_topic": place.topic,
        "letter_topic_id": place.topic_id,
        "letter_partition": place.partition,
        "letter_offset": place.offset,
        "letter_end": place.offset + 1,
    }


def _position(place: Place) -> str:
    return f"{place.topic_id}/{place.partition}/{place.offset}"


_TEXTS: Final[Mapping[str, str]] = {
    "reason": REASON_HEADER,
    "detail": DETAIL_HEADER,
    "topic": TOPIC_HEADER,
    "topic_id": TOPIC_ID_HEADER,
    "source": SOURCE_HEADER,
    "dataset": DATASET_HEADER,
    "file": FILE_HEADER,
    "digest": DIGEST_HEADER,
}
_NUMBERS: Final[Mapping[str, tuple[str, int]]] = {
    "kafka_partition": (PARTITION_HEADER, _INT32_END),
    "kafka_offset": (OFFSET_HEADER, _INT64_END),
    "row": (ROW_HEADER, _INT64_END),
}


def _text(header: str | bytes | None) -> str | None:
    return header.decode(errors="replace") if isinstance(header, bytes) else header


def _number(header: str | bytes | None, end: int) -> int | None:
    """Return a header's number, or None for what is none: anybody may write to the topic."""
    text = _text(header) or ""
    if not (text.isascii() and text.isdigit() and len(text) <= _INT64_DIGITS):
        return None
    return number if (number := int(text)) < end else None
