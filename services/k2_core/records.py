"""The record types, each derived from one Avro file: its Arrow form, its Iceberg form and its columns' roles.

`schemas/*.avsc` is the only place where a field is written down. The table's form is the wire's form followed by
the columns that the sink adds (`TABLE_COLUMNS`). Called by the codec, the sink, the query service and the tests;
it never touches Kafka or a catalog.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from typing import Any, ClassVar, Final, Protocol

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

from k2_core.errors import SchemaError

UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
_YEAR_10000_MS: Final = 253_402_300_800_000
TEXTS: Final = pa.list_(pa.field("element", pa.string(), nullable=False))

TABLE_COLUMNS: Final[tuple[tuple[str, pa.DataType, str], ...]] = (
    ("event_time", UTC_MICROSECONDS, "exchange_timestamp, or receive_timestamp where there is none; never null"),
    ("topic_id", pa.string(), "The UUID of the Kafka topic that held the record"),
    ("kafka_partition", pa.int32(), "The partition that held the record"),
    (
        "kafka_offset",
        pa.int64(),
        "The record's offset: with topic and partition its identity in the log",
    ),
)
"""The columns that a table has beyond its record's fields, in order: name, type, meaning."""

OFF_MARKET_KEY: Final = "off_market"
"""In `vendor_data`, with the value `true`: a print that was agreed elsewhere and only reported, so that its price says
little of the market then. Bars leave it out."""

_PRIMITIVES: Final[Mapping[str, pa.DataType]] = {"string": pa.string(), "long": pa.int64(), "int": pa.int32()}


@dataclass(frozen=True)
class RecordType:
    """One kind of record.

    Args:
        name: The table's name and the topic's data type, such as `trades`.
        schema_file: The Avro file below `k2_core/schemas`.
        packaged_id: The schema id on the wire where no registry is configured. Far above what a registry hands
            out (they count from 1), so that the two are never mistaken for each other.
    """

    name: str
    schema_file: str
    packaged_id: int
    partitioned: ClassVar[bool] = True

    @cached_property
    def avro(self) -> dict[str, Any]:
        """The Avro schema as parsed JSON; treat it as read-only."""
        text = resources.files("k2_core").joinpath("schemas", self.schema_file).read_text(encoding="utf-8")
        schema: dict[str, Any] = json.loads(text)
        return schema

    @cached_property
    def wire_schema(self) -> pa.Schema:
        """The Arrow form of what travels through Kafka."""
        return arrow_schema(self.avro)

    @cached_property
    def table_schema(self) -> pa.Schema:
        """The Arrow form of a table's row: the wire's fields, then `TABLE_COLUMNS`."""
        added = [pa.field(name, kind, nullable=False) for name, kind, _ in TABLE_COLUMNS]
        return pa.schema([*self.wire_schema, *added])

    @cached_property
    def iceberg_schema(self) -> Schema:
        """The Iceberg form of a table's row; ids follow the order of the columns, nested ones after them."""
        docs = {field["name"]: field.get("doc") for field in self.avro["fields"]}
        return iceberg_schema(self.table_schema, docs | {name: doc for name, _, doc in TABLE_COLUMNS})


TRADES: Final = RecordType("trades", "trade_v2.avsc", 1_000_001)
QUOTES: Final = RecordType("quotes", "quote_v2.avsc", 1_000_002)
RECORD_TYPES: Final[Mapping[str, RecordType]] = {kind.name: kind for kind in (TRADES, QUOTES)}


def utc_time(milliseconds: int) -> datetime | None:
    """Return a time in UTC, or None where no calendar has it: producers may set any number.

    Args:
        milliseconds: Since 1970.
    """
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC) if 0 <= milliseconds < _YEAR_10000_MS else None


class TableForm(Protocol):
    """What a table is made from: a record type, or what is derived from one."""

    @property
    def name(self) -> str:
        """The table's name."""

    @property
    def iceberg_schema(self) -> Schema:
        """The Iceberg form of a row."""

    @property
    def partitioned(self) -> bool:
        """Whether it is by day and symbol: not where a commit brings a handful of rows."""


def iceberg_schema(columns: pa.Schema, docs: Mapping[str, str | None]) -> Schema:
    """Return the Iceberg form of columns; ids follow their order, nested ones after them.

    Args:
        columns: In Arrow form.
        docs: What each one means.
    """
    ids = _IdCounter(len(columns))
    return Schema(
        *(
            NestedField(
                field_id=index,
                name=field.name,
                field_type=_iceberg_type(field.type, ids),
                required=not field.nullable,
                doc=docs[field.name],
            )
            for index, field in enumerate(columns, start=1)
        )
    )


class _IdCounter:
    """Hands out the ids of nested fields, which come after those of all columns."""

    def __init__(self, last_id: int) -> None:
        self._last_id = last_id

    def next(self) -> int:
        self._last_id += 1
        return self._last_id


def arrow_schema(avro: Mapping[str, Any]) -> pa.Schema:
    """Return the Arrow schema of an Avro record.

    Raises:
        SchemaError: A field has a type that K2's records do not use.
    """
    return pa.schema([_arrow_field(field) for field in avro["fields"]])


def _arrow_field(field: Mapping[str, Any]) -> pa.Field:
    avro_type = field["type"]
    nullable = isinstance(avro_type, list)
    if nullable:
        if len(avro_type) != 2 or avro_type[0] != "null":
            raise SchemaError(f"{field['name']}: found the union {avro_type}, expected ['null', one type]")
        avro_type = avro_type[1]
    return pa.field(field["name"], _arrow_type(field["name"], avro_type), nullable=nullable)


def _arrow_type(name: str, avro_type: object) -> pa.DataType:
    match avro_type:
        case str() if avro_type in _PRIMITIVES:
            return _PRIMITIVES[avro_type]
        case {"logicalType": "decimal", "type": "bytes", "precision": int(precision), "scale": int(scale)}:
            return pa.decimal128(precision, scale)
        case {"logicalType": "timestamp-micros", "type": "long"}:
            return UTC_MICROSECONDS
        case {"type": "map", "values": "string"}:
            return pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))
    raise SchemaError(f"{name}: found the Avro type {avro_type}, expected string, long, decimal, time or map")


def _iceberg_type(kind: pa.DataType, ids: _IdCounter) -> IcebergType:
    if pa.types.is_map(kind):
        return MapType(
            key_id=ids.next(), key_type=StringType(), value_id=ids.next(), value_type=StringType(), value_required=True
        )
    if pa.types.is_list(kind):
        return ListType(element_id=ids.next(), element_type=StringType(), element_required=True)
    if pa.types.is_decimal(kind):
        return DecimalType(kind.precision, kind.scale)
    simple: dict[pa.DataType, IcebergType] = {
        pa.string(): StringType(),
        pa.binary(): BinaryType(),
        pa.int64(): LongType(),
        pa.int32(): IntegerType(),
        UTC_MICROSECONDS: TimestamptzType(),
    }
    return simple[kind]
