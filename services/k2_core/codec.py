"""Batches of Kafka values to Arrow and back to the records at fault: the hot path's decoder.

A batch is decoded as one Avro container block in memory, by the Rust reader of polars-avro, with nothing per record in
Python. Each value keeps its wire prefix (magic byte and schema id), and after each value stands a guard of 8
unpredictable bytes; both are fields of the block's schema. A value that is too short, too long or not of this schema
cannot shift its neighbours unnoticed: the guards behind it no longer read as written, or the block does not decode.
Only then are single values looked at, with fastavro, to say which is bad and why.

Called by the sink and the query service's tail. It never talks to Kafka or a registry.

The reader's public function hands its batches through polars and lets polars choose their size; a block with bytes left
over then never ends (polars-avro 0.13.0). The source class beneath takes the batch size, stops after it, and gives
Arrow types without a detour.
"""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.schema import SchemaParseException
from polars_avro._avro_rs import AvroError, AvroSource

from k2_core.checks import find_invalid
from k2_core.errors import RecordError, SchemaError
from k2_core.records import RecordType, arrow_schema

MAGIC: Final = 0
PREFIX_BYTES: Final = 5
"""The Confluent wire format: one magic byte and a schema id of four, big-endian, before the Avro body."""
MAX_BATCH_RECORDS: Final = 65_536
_GUARD_BYTES: Final = 8
_BISECT_DOWN_TO: Final = 1_024
"""Below, fastavro's 9 us a value cost less than asking again and again which half is bad, at 0.4 ms and more a time."""
_CERTAIN: Final = frozenset({"truncated", "trailing_bytes", "malformed_text"})
"""Reasons on which fastavro's word is enough. Asking the block reader too costs 0.4 ms a value, 26 s a full batch."""

_first_guard = np.uint64(secrets.randbits(63))
_GUARDS: Final = _first_guard + np.arange(MAX_BATCH_RECORDS, dtype=np.uint64)
_GUARD_LIST: Final = [guard.tobytes() for guard in _GUARDS]

SchemaLookup = Callable[[int], Mapping[str, Any]]
"""Writer schema by id; raises RecordError("unknown_schema_id", …) for an id that nobody registered."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One value that is no record: its index in the batch, a stable reason, and what was found and expected."""

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """The outcome of decoding n values.

    Args:
        rows: The good records in the wire's Arrow form, in the order of the values.
        indexes: For each row the index of its value, int64, ascending.
        rejected: The others, ascending by index; rows and rejected together are all n.
    """

    rows: pa.Table
    indexes: np.ndarray[tuple[int], np.dtype[np.int64]]
    rejected: tuple[Rejected, ...]


def wire_prefix(schema_id: int) -> bytes:
    """Return the five bytes that go before an Avro body."""
    return bytes([MAGIC]) + schema_id.to_bytes(4, "big")


class BatchDecoder:
    """Decodes values of one record type, whatever versions of its schema wrote them.

    Args:
        record_type: What the rows are to be.
        lookup: Where writer schemas come from. Its answers are kept for the decoder's life: ids are immutable.
    """

    def __init__(self, record_type: RecordType, lookup: SchemaLookup) -> None:
        self._record_type = record_type
        self._lookup = lookup
        self._readers: dict[bytes, _BlockReader] = {}

    def decode(self, values: Sequence[bytes | None]) -> DecodedBatch:
        """Decode any number of values and check theirs (`k2_core.checks`); a bad one never costs a good one.

        Raises:
            RetryableError: The lookup could not ask its registry: nothing was decoded, ask again.
        """
        parts: list[pa.Table] = []
        indexes: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        rejected: list[Rejected] = []
        for start in range(0, len(values), MAX_BATCH_RECORDS):
            chunk = values[start : start + MAX_BATCH_RECORDS]
            self._decode_chunk(chunk, np.arange(start, start + len(chunk), dtype=np.int64), parts, indexes, rejected)
        rows = pa.concat_tables(parts) if parts else self._record_type.wire_schema.empty_table()
        where = np.concatenate(indexes) if indexes else np.empty(0, dtype=np.int64)
        if len(parts) > 1 and np.any(np.diff(where) < 0):  # schema versions were mixed: back into the log's order
            order = np.argsort(where)
            rows, where = rows.take(pa.array(order)), where[order]
        invalid = find_invalid(rows)
        if invalid:
            rejected.extend(Rejected(int(where[row]), reason, detail) for row, (reason, detail) in invalid.items())
            keep = np.ones(len(where), dtype=np.bool_)
            keep[list(invalid)] = False
            rows, where = rows.filter(pa.array(keep)), where[keep]
        return DecodedBatch(rows, where, tuple(sorted(rejected, key=lambda bad: bad.index)))

    def _decode_chunk(
        self,
        values: Sequence[bytes | None],
        where: np.ndarray[tuple[int], np.dtype[np.int64]],
        parts: list[pa.Table],
        indexes: list[np.ndarray[tuple[int], np.dtype[np.int64]]],
        rejected: list[Rejected],
    ) -> None:
        reader = self._reader_of_first(values)
        batch = reader.read(values) if reader is not None else None
        if batch is not None and reader is not None:
            parts.append(reader.conform(batch))
            indexes.append(where)
            return
        for prefix, members in _by_prefix(values).items():
            good = self._sift(prefix, [values[at] for at in members.tolist()], where[members], rejected)
            if good.size:
                reader = self._readers[prefix]
                keep = set(good.tolist())
                kept = [value for value, at in zip(values, where.tolist(), strict=True) if at in keep]
                batch = reader.read(kept)
                if batch is None:
                    raise AssertionError("values that decode one by one did not decode together")
                parts.append(reader.conform(batch))
                indexes.append(good)

    def _reader_of_first(self, values: Sequence[bytes | None]) -> _BlockReader | None:
        try:
            return self._reader((values[0] or b"")[:PREFIX_BYTES])
        except RecordError:
            return None

    def _reader(self, prefix: bytes) -> _BlockReader:
        reader = self._readers.get(prefix)
        if reader is None:
            _require_wire_format(prefix)
            writer = self._lookup(int.from_bytes(prefix[1:], "big"))
            reader = self._readers[prefix] = _BlockReader(prefix, writer, self._record_type)
        return reader

    def _sift(
        self,
        prefix: bytes,
        values: list[bytes | None],
        where: np.ndarray[tuple[int], np.dtype[np.int64]],
        rejected: list[Rejected],
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the indexes of the values that decode, and list the others."""
        try:
            reader = self._reader(prefix)
        except RecordError as error:
            rejected.extend(Rejected(int(at), error.reason, error.detail) for at in where)
            return np.empty(0, dtype=np.int64)
        good: list[int] = []
        _bisect(reader, [value or b"" for value in values], where, good, rejected)
        return np.array(good, dtype=np.int64)


def _bisect(
    reader: _BlockReader,
    values: list[bytes],
    where: np.ndarray[tuple[int], np.dtype[np.int64]],
    good: list[int],
    rejected: list[Rejected],
) -> None:
    """Find the few bad values among many good ones without looking at each."""
    if reader.read(values) is not None:
        good.extend(where.tolist())
    elif len(values) > _BISECT_DOWN_TO:
        half = len(values) // 2
        _bisect(reader, values[:half], where[:half], good, rejected)
        _bisect(reader, values[half:], where[half:], good, rejected)
    else:
        _judge(reader, values, where, good, rejected)


def _judge(
    reader: _BlockReader,
    values: list[bytes],
    where: np.ndarray[tuple[int], np.dtype[np.int64]],
    good: list[int],
    rejected: list[Rejected],
) -> None:
    """Look at each value: first with fastavro, then the block reader at those that fastavro does not rule out."""
    open_cases: list[tuple[bytes, Rejected]] = []
    for value, at in zip(values, where.tolist(), strict=True):
        verdict = Rejected(at, *reader.explain(value))
        if verdict.reason in _CERTAIN:
            rejected.append(verdict)
        else:
            open_cases.append((value, verdict))
    _settle(reader, open_cases, good, rejected)


def _settle(
    reader: _BlockReader, cases: list[tuple[bytes, Rejected]], good: list[int], rejected: list[Rejected]
) -> None:
    """Accept what the block reader takes, and reject the single values that it does not."""
    if not cases:
        return
    if reader.read([value for value, _ in cases]) is not None:
        good.extend(verdict.index for _, verdict in cases)
    elif len(cases) == 1:
        rejected.append(cases[0][1])
    else:
        half = len(cases) // 2
        _settle(reader, cases[:half], good, rejected)
        _settle(reader, cases[half:], good, rejected)


def _by_prefix(values: Sequence[bytes | None]) -> dict[bytes, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Group the indexes of values by their first five bytes; a null counts as empty."""
    prefixes = pc.binary_slice(pc.fill_null(pa.array(values, pa.binary()), b""), 0, PREFIX_BYTES)
    coded = prefixes.dictionary_encode()
    codes = coded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return dict(zip(coded.dictionary.to_pylist(), members, strict=True))


class _BlockReader:
    """Reads blocks of values that share one wire prefix."""

    def __init__(self, prefix: bytes, writer: Mapping[str, Any], record_type: RecordType) -> None:
        self._prefix = prefix
        self._target = record_type.wire_schema
        try:
            self._writer = fastavro.parse_schema(dict(writer))
            self._header = _container_header(_guarded(writer))
            _require_compatible(arrow_schema(writer), self._target)
        except (SchemaParseException, SchemaError, LookupError, ValueError, TypeError, AttributeError) as error:
            # Anybody may have registered anything under this id, and fastavro has no error of its own for all of it.
            raise RecordError("foreign_schema", f"found a schema that is no {record_type.name}: {error}") from error

    def read(self, values: Sequence[bytes | None]) -> pa.RecordBatch | None:
        """Return one row a value, or None if any value is not exactly one record of this schema."""
        count = len(values)
        pieces: list[bytes | None] = [None] * (2 * count)
        pieces[0::2] = values
        pieces[1::2] = _GUARD_LIST[:count]
        try:
            block = b"".join(pieces)  # type: ignore[arg-type]  # a null value raises, which is how it is noticed
            framed = b"".join((self._header, _zigzag(count), _zigzag(len(block)), block, self._header[-16:]))
            source = AvroSource([lambda: contextlib.nullcontext(io.BytesIO(framed))], False, False)
            batches = source.batch_iter(count, None)  # named: dropped inside next() it would eat the error
            batch = pa.record_batch(next(batches))
        except (AvroError, TypeError, StopIteration):
            return None
        return batch if self._intact(batch, count) else None

    def _intact(self, batch: pa.RecordBatch, count: int) -> bool:
        if batch.num_rows != count:
            return False
        guards = np.frombuffer(batch.column(batch.num_columns - 1).buffers()[1], dtype=np.uint64, count=count)
        if not np.array_equal(guards, _GUARDS[:count]):
            return False
        return bool(pc.all(pc.equal(batch.column(0), pa.scalar(self._prefix, batch.column(0).type))).as_py())

    def conform(self, batch: pa.RecordBatch) -> pa.Table:
        """Return the batch in the record type's own form: older schemas lack columns, newer ones have more."""
        columns = []
        for field in self._target:
            at = batch.schema.get_field_index(field.name)
            if at < 0:
                columns.append(pa.nulls(batch.num_rows, field.type))
            else:  # a cast only renames the time zone, from +00:00 to UTC
                columns.append(batch.column(at).cast(field.type))
        return pa.Table.from_arrays(columns, schema=self._target)

    def explain(self, value: bytes) -> tuple[str, str]:
        """Return the reason and detail of a value that did not decode."""
        body = io.BytesIO(value[PREFIX_BYTES:])
        try:
            fastavro.schemaless_reader(body, self._writer, None)
        except (EOFError, IndexError) as error:
            # fastavro's IndexError is a number that the end cuts off, or a branch that a union has not.
            if isinstance(error, EOFError) or not body.read(1):
                return "truncated", f"found {len(value)} bytes, expected a whole record"
            return "malformed", f"found a branch that its union has not ({error})"
        except UnicodeDecodeError as error:
            return "malformed_text", f"found a string that is no UTF-8 ({error})"
        except (ValueError, OverflowError, TypeError, KeyError, ArithmeticError) as error:
            return "malformed", f"found bytes that are no record ({type(error).__name__}: {error})"
        left = len(value) - PREFIX_BYTES - body.tell()
        if left:
            return "trailing_bytes", f"found {left} bytes after the record, expected none"
        return "malformed", f"found {len(value)} bytes that the decoder refuses, expected a record in range"


def _require_wire_format(prefix: bytes) -> None:
    if len(prefix) < PREFIX_BYTES:
        raise RecordError("truncated", f"found {len(prefix)} bytes, expected at least {PREFIX_BYTES}")
    if prefix[0] != MAGIC:
        raise RecordError("foreign_format", f"found the first byte {prefix[0]}, expected {MAGIC}")


def _require_compatible(writer: pa.Schema, target: pa.Schema) -> None:
    """Check that rows of the writer's schema are rows of the target: columns may be added or, if nullable, missing."""
    for field in target:
        at = writer.get_field_index(field.name)
        found = writer.field(at) if at >= 0 else None
        if found is None and field.nullable:
            continue
        if found is None or found.type != field.type or (found.nullable and not field.nullable):
            raise SchemaError(f"{field.name}: found {_form(found)}, expected {_form(field)}")


def _form(field: pa.Field | None) -> str:
    if field is None:
        return "no such field"
    return f"{field.type} or null" if field.nullable else str(field.type)


def _guarded(writer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of prefix, record and guard as one record, stripped of what the reader does not need."""
    prefix = {"name": "_k2_prefix", "type": {"type": "fixed", "name": "K2Prefix", "size": PREFIX_BYTES}}
    guard = {"name": "_k2_guard", "type": {"type": "fixed", "name": "K2Guard", "size": _GUARD_BYTES}}
    fields = [{"name": field["name"], "type": field["type"]} for field in writer.get("fields", [])]
    return {"type": "record", "name": "K2Block", "fields": [prefix, *fields, guard]}


def _container_header(schema: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.writer(buffer, fastavro.parse_schema(dict(schema)), [])
    return buffer.getvalue()


def _zigzag(number: int) -> bytes:
    """Return a non-negative number as an Avro long."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
