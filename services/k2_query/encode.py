"""Rows to JSON: numbers that are exact become strings, times ISO 8601 in UTC with microseconds. Columnar until the end.

Called by the service for the rows that are left after the limit. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER: Final = msgspec.json.Encoder()


def to_json(document: object) -> bytes:
    """Return a document of plain values as JSON."""
    return _ENCODER.encode(document)


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table as plain values by name."""
    names = table.schema.names
    columns = [_plain(table.column(name)) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_decimal(kind):
        return _decimals(column)
    if pa.types.is_timestamp(kind):
        text = column.cast(pa.timestamp("us")).cast(pa.string())
        texts: list[str | None] = pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "").to_pylist()
        return texts
    values: list[Any] = column.to_pylist()
    return [dict(pairs) for pairs in values] if pa.types.is_map(kind) else values


def _decimals(column: pa.ChunkedArray) -> list[str | None]:
    text = column.cast(pa.string())
    if pc.any(pc.match_substring(text, "E")).as_py():  # Arrow writes 1E-8 where people expect 0.00000001
        return [None if value is None else f"{value:f}" for value in column.to_pylist()]
    texts: list[str | None] = text.to_pylist()
    return texts


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso_us(moment_us: int) -> str:
    """Return microseconds since 1970 as ISO 8601."""
    return iso(_EPOCH + timedelta(microseconds=moment_us))
