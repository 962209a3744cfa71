"""One Avro file, three forms: Avro, Arrow and Iceberg must say the same, to each other and to the libraries."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.types import (
    DecimalType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    TimestamptzType,
)

from k2_core.codec import BatchDecoder
from k2_core.errors import SchemaError
from k2_core.records import QUOTES, RECORD_TYPES, TABLE_COLUMNS, TRADES, RecordType, arrow_schema
from k2_core.schemas import PackagedSchemas
from support.records import Record, arrow_rows, encode, make_quotes, make_trades, plain_rows

EACH_TYPE = pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=lambda kind: kind.name)


def records_of(record_type: RecordType) -> list[Record]:
    return make_trades(200) if record_type is TRADES else make_quotes(200)


def table_rows(record_type: RecordType) -> pa.Table:
    """Rows as the sink makes them: the wire's columns and its own."""
    wire = arrow_rows(records_of(record_type), record_type)
    added = {
        "event_time": wire["exchange_timestamp"],
        "topic_id": pa.array(["AAAAAAAAAAAAAAAAAAAAAA"] * wire.num_rows),
        "kafka_partition": pa.array([3] * wire.num_rows, pa.int32()),
        "kafka_offset": pa.array(range(wire.num_rows), pa.int64()),
    }
    return pa.Table.from_arrays([*wire.columns, *added.values()], schema=record_type.table_schema)


def without_metadata(schema: pa.Schema) -> pa.Schema:
    """Iceberg's libraries write field ids and docs into Arrow's metadata, and call text large text."""
    return pa.schema([pa.field(field.name, _plain(field.type), field.nullable) for field in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        item = kind.item_field
        return pa.map_(_plain(kind.key_type), pa.field("value", _plain(item.type), nullable=item.nullable))
    return pa.string() if pa.types.is_large_string(kind) else kind


class TestAvro:
    @EACH_TYPE
    def test_the_file_is_valid_and_every_field_is_explained(self, record_type: RecordType) -> None:
        fastavro.parse_schema(dict(record_type.avro))
        assert all(field["doc"].endswith(".") for field in record_type.avro["fields"])

    @EACH_TYPE
    def test_optional_fields_default_to_null(self, record_type: RecordType) -> None:
        # Else a reader of this version could not read a writer that lacks the field.
        optional = [field for field in record_type.avro["fields"] if isinstance(field["type"], list)]
        assert optional
        assert all("default" in field and field["default"] is None for field in optional)

    @EACH_TYPE
    def test_what_the_design_asks_of_every_record(self, record_type: RecordType) -> None:
        types = {field["name"]: field["type"] for field in record_type.avro["fields"]}
        micros = {"type": "long", "logicalType": "timestamp-micros"}
        assert types["exchange_timestamp"] == ["null", micros]
        assert types["receive_timestamp"] == micros
        assert types["message_id"] == "string"
        assert types["vendor_data"] == {"type": "map", "values": "string"}

    def test_the_numbers_of_a_trade_are_exact(self) -> None:
        assert TRADES.wire_schema.field("price").type == pa.decimal128(18, 8)
        assert TRADES.wire_schema.field("quantity").type == pa.decimal128(28, 8)


class TestArrow:
    @EACH_TYPE
    def test_null_in_avro_is_null_in_arrow(self, record_type: RecordType) -> None:
        nullable = {field["name"]: isinstance(field["type"], list) for field in record_type.avro["fields"]}
        assert {field.name: field.nullable for field in record_type.wire_schema} == nullable

    @EACH_TYPE
    def test_a_table_has_the_wires_columns_then_its_own(self, record_type: RecordType) -> None:
        names = [*record_type.wire_schema.names, *(name for name, _, _ in TABLE_COLUMNS)]
        assert record_type.table_schema.names == names
        assert len(set(names)) == len(names)

    def test_own_columns_are_never_null(self) -> None:
        assert not any(TRADES.table_schema.field(name).nullable for name, _, _ in TABLE_COLUMNS)

    @pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=lambda kind: kind.name)
    def test_records_survive_both_ways(self, record_type: RecordType) -> None:
        records = records_of(record_type)
        assert plain_rows(arrow_rows(records, record_type)) == records

    @pytest.mark.parametrize(
        ("avro_type", "message"),
        [
            pytest.param("double", "price: found the Avro type double, expected", id="floating"),
            pytest.param({"type": "long", "logicalType": "timestamp-millis"}, "timestamp-millis", id="milliseconds"),
            pytest.param({"type": "map", "values": "long"}, "'values': 'long'", id="map-of-numbers"),
            pytest.param({"type": "bytes", "logicalType": "decimal", "precision": 4}, "decimal", id="no-scale"),
            pytest.param(["string", "null"], r"price: found the union .* expected \['null', one type\]", id="order"),
            pytest.param(["null"], "found the union", id="one-branch"),
            pytest.param(["null", "long", "string"], "found the union", id="three-branches"),
        ],
    )
    def test_other_avro_types_are_refused(self, avro_type: Any, message: str) -> None:
        with pytest.raises(SchemaError, match=message):
            arrow_schema({"fields": [{"name": "price", "type": avro_type}]})


class TestIceberg:
    @EACH_TYPE
    def test_pyicebergs_own_arrow_form_is_ours(self, record_type: RecordType) -> None:
        theirs = schema_to_pyarrow(record_type.iceberg_schema)
        assert without_metadata(theirs) == record_type.table_schema

    @EACH_TYPE
    def test_types_follow_from_avro(self, record_type: RecordType) -> None:
        """Against Avro directly, not through Arrow, so that one mistake cannot hide in both."""
        schema = record_type.iceberg_schema
        for field in record_type.avro["fields"]:
            found = schema.find_field(field["name"])
            avro_type = field["type"][1] if isinstance(field["type"], list) else field["type"]
            match avro_type:
                case "string":
                    assert found.field_type == StringType()
                case "long":
                    assert found.field_type == LongType()
                case {"logicalType": "decimal"}:
                    assert found.field_type == DecimalType(avro_type["precision"], avro_type["scale"])
                case {"logicalType": "timestamp-micros"}:
                    assert found.field_type == TimestamptzType()
                case {"type": "map"}:
                    assert isinstance(found.field_type, MapType)
                    assert found.field_type.value_required
                case _:
                    pytest.fail(f"{field['name']}: {avro_type}")
            assert found.required is not isinstance(field["type"], list)
            assert found.doc == field["doc"]

    def test_own_columns(self) -> None:
        schema = TRADES.iceberg_schema
        found = {name: schema.find_field(name) for name, _, _ in TABLE_COLUMNS}
        assert {name: field.field_type for name, field in found.items()} == {
            "event_time": TimestamptzType(),
            "topic_id": StringType(),
            "kafka_partition": IntegerType(),
            "kafka_offset": LongType(),
        }
        assert all(field.required and field.doc for field in found.values())

    @EACH_TYPE
    def test_ids_are_those_of_the_first_release(self, record_type: RecordType) -> None:
        """Ids are in every data file: they must never move. Columns by order, nested ones after them."""
        schema = record_type.iceberg_schema
        columns = [field.field_id for field in schema.fields]
        assert columns == list(range(1, len(columns) + 1))
        assert sorted(set(schema._lazy_id_to_field) - set(columns)) == [len(columns) + 1, len(columns) + 2]

    @EACH_TYPE
    def test_a_real_table_takes_rows_and_gives_them_back(self, record_type: RecordType, tmp_path: Path) -> None:
        catalog = SqlCatalog("k2", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
        try:
            catalog.create_namespace("market")
            table = catalog.create_table(("market", record_type.name), schema=record_type.iceberg_schema)
            # The catalog gives ids anew: ours must be the ones it would give.
            assert table.schema().as_struct() == record_type.iceberg_schema.as_struct()
            rows = table_rows(record_type)
            table.append(rows)
            back = catalog.load_table(("market", record_type.name)).scan().to_arrow()
        finally:
            catalog.close()
        assert without_metadata(back.schema) == record_type.table_schema
        assert back.sort_by("kafka_offset").to_pylist() == rows.to_pylist()


class TestParquet:
    @EACH_TYPE
    def test_a_real_file_gives_the_same_rows(self, record_type: RecordType, tmp_path: Path) -> None:
        rows = table_rows(record_type)
        pq.write_table(rows, tmp_path / "rows.parquet", store_decimal_as_integer=True, compression="zstd")
        assert pq.read_table(tmp_path / "rows.parquet").cast(record_type.table_schema).equals(rows)

    def test_the_largest_numbers_stay_exact(self, tmp_path: Path) -> None:
        trade = make_trades(1)[0] | {
            "price": Decimal("9999999999.99999999"),
            "quantity": Decimal("99999999999999999999.99999999"),
            "receive_timestamp": datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        }
        pq.write_table(arrow_rows([trade]), tmp_path / "row.parquet")
        assert plain_rows(pq.read_table(tmp_path / "row.parquet")) == [trade]
        assert plain_rows(BatchDecoder(TRADES, PackagedSchemas().by_id).decode([encode(trade)]).rows) == [trade]


def test_the_three_forms_are_made_once() -> None:
    assert TRADES.avro is TRADES.avro
    assert TRADES.iceberg_schema is TRADES.iceberg_schema


def test_reading_a_form_leaves_the_avro_file_as_it_was() -> None:
    before = copy.deepcopy(QUOTES.avro)
    assert QUOTES.table_schema is not None
    assert QUOTES.iceberg_schema is not None
    assert before == QUOTES.avro
