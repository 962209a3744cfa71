"""The batch decoder, case by case; tests/property/test_codec.py damages whatever Hypothesis finds."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from k2_core.codec import MAX_BATCH_RECORDS, BatchDecoder, wire_prefix
from k2_core.errors import RecordError
from k2_core.records import QUOTES, TRADES
from k2_core.schemas import PackagedSchemas
from support.records import Record, arrow_rows, encode, encode_body, make_quotes, make_trades, plain_rows

pytestmark = pytest.mark.timeout(60)

GOOD: Final = make_trades(3, seed=5)
PREFIX: Final = wire_prefix(TRADES.packaged_id)
GUARD_SIZE: Final = 8


def decoder(lookup: Mapping[int, Any] | None = None) -> BatchDecoder:
    packaged = PackagedSchemas()

    def by_id(schema_id: int) -> Any:
        return lookup[schema_id] if lookup and schema_id in lookup else packaged.by_id(schema_id)

    return BatchDecoder(TRADES, by_id)


def avro_long(number: int) -> bytes:
    zigzag = (number << 1 ^ number >> 63) & (1 << 64) - 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes(out) + bytes([zigzag])


def avro_bytes(content: bytes) -> bytes:
    return avro_long(len(content)) + content


def crafted(**parts: bytes) -> bytes:
    """A trade byte by byte, so that a part can be what no encoder writes."""
    defaults = {
        "message_id": avro_bytes(b"binance:spot:BTCUSDT:1"),
        "symbol": avro_bytes(b"BTCUSDT"),
        "exchange": avro_bytes(b"binance"),
        "market": avro_bytes(b"spot"),
        "asset_class": avro_bytes(b"crypto"),
        "trade_id": avro_bytes(b"1"),
        "sequence": b"\x02" + avro_long(1),
        "side": b"\x02" + avro_bytes(b"buy"),
        "price": avro_bytes(b"\x01"),
        "quantity": avro_bytes(b"\x01"),
        "exchange_timestamp": b"\x02" + avro_long(1_767_600_000_000_000),
        "receive_timestamp": avro_long(1_767_600_000_000_000),
        "vendor_data": b"\x00",
    }
    assert defaults.keys() >= parts.keys()
    return PREFIX + b"".join((defaults | parts).values())


def verdict(value: bytes | None) -> tuple[str, str] | None:
    """The rejection of one value between two good ones, which must come out untouched."""
    decoded = decoder().decode([encode(GOOD[0]), value, encode(GOOD[1])])
    rows = plain_rows(decoded.rows)
    assert (rows[0], rows[-1]) == (GOOD[0], GOOD[1])
    if not decoded.rejected:
        return None
    (bad,) = decoded.rejected
    assert (bad.index, decoded.indexes.tolist(), len(rows)) == (1, [0, 2], 2)
    return bad.reason, bad.detail


class TestGood:
    def test_nothing_gives_nothing_in_the_right_form(self) -> None:
        decoded = decoder().decode([])
        assert (decoded.rows.schema, decoded.rows.num_rows, decoded.rejected) == (TRADES.wire_schema, 0, ())
        assert decoded.indexes.tolist() == []

    def test_trades_as_arrow_itself_makes_them(self) -> None:
        trades = make_trades(500)
        decoded = decoder().decode([encode(trade) for trade in trades])
        assert decoded.rejected == ()
        assert decoded.indexes.tolist() == list(range(500))
        assert decoded.rows.schema == TRADES.wire_schema
        assert decoded.rows.combine_chunks().equals(arrow_rows(trades))

    def test_quotes_with_absent_sides(self) -> None:
        quotes = make_quotes(500)
        assert any(quote["bid_price"] is None for quote in quotes)
        decoded = BatchDecoder(QUOTES, PackagedSchemas().by_id).decode([encode(quote, QUOTES) for quote in quotes])
        assert decoded.rejected == ()
        assert plain_rows(decoded.rows) == quotes

    def test_null_columns(self) -> None:
        trade = GOOD[0] | {"sequence": None, "side": None, "exchange_timestamp": None}
        assert plain_rows(decoder().decode([encode(trade)]).rows) == [trade]

    def test_more_than_one_chunk_in_order(self) -> None:
        count = MAX_BATCH_RECORDS + 1_000
        one = [encode(trade) for trade in make_trades(1_000, symbols=("BTCUSDT",))]
        values: list[bytes | None] = [one[at % 1_000] for at in range(count)]
        values[70] = b"\xff"
        values[MAX_BATCH_RECORDS + 5] = None
        decoded = decoder().decode(values)
        assert [bad.index for bad in decoded.rejected] == [70, MAX_BATCH_RECORDS + 5]
        assert decoded.rows["sequence"].to_pylist() == [at % 1_000 + 1 for at in decoded.indexes.tolist()]

    @pytest.mark.parametrize(
        "count", [MAX_BATCH_RECORDS - 1, MAX_BATCH_RECORDS, MAX_BATCH_RECORDS + 1], ids=["below", "at", "above"]
    )
    def test_around_the_size_of_a_chunk(self, count: int) -> None:
        decoded = decoder().decode([encode(GOOD[0])] * count)
        assert (decoded.rows.num_rows, decoded.indexes.size, decoded.rejected) == (count, count, ())

    def test_a_decoder_can_be_used_again_after_a_bad_batch(self) -> None:
        again = decoder()
        again.decode([b"", PREFIX + b"\xff" * 40, None])
        assert plain_rows(again.decode([encode(GOOD[0])]).rows) == GOOD[:1]


class TestRejections:
    @pytest.mark.parametrize(
        ("value", "reason", "detail"),
        [
            (None, "truncated", "found 0 bytes, expected at least 5"),
            (b"", "truncated", "found 0 bytes, expected at least 5"),
            (b"\x00\x00\x0f", "truncated", "found 3 bytes, expected at least 5"),
            (PREFIX, "truncated", "found 5 bytes, expected a whole record"),
            (encode(GOOD[2])[:-1], "truncated", "bytes, expected a whole record"),
            (b'{"e":"trade"}', "foreign_format", "found the first byte 123, expected 0"),
            (wire_prefix(7) + b"body", "unknown_schema_id", "found schema id 7, expected one of [1000001, 1000002]"),
            (encode(GOOD[2], schema_id=7), "unknown_schema_id", "found schema id 7, expected one of"),
            (encode(make_quotes(1)[0], QUOTES), "foreign_schema", "found a schema that is no trades: trade_id: found"),
            (encode(GOOD[2]) + b"\x00", "trailing_bytes", "found 1 bytes after the record, expected none"),
            (encode(GOOD[2]) + encode(GOOD[2])[5:], "trailing_bytes", "bytes after the record, expected none"),
            (encode(GOOD[2]) + encode(GOOD[2]), "trailing_bytes", "bytes after the record, expected none"),
            (encode(GOOD[2]) + b"\x00" * GUARD_SIZE, "trailing_bytes", "found 8 bytes after the record"),
            (crafted(message_id=avro_bytes(b"\xff\xfe")), "malformed_text", "found a string that is no UTF-8"),
            (crafted(sequence=b"\x02" + b"\xff" * 11 + b"\x01"), "malformed", "that the decoder refuses"),
            (crafted(sequence=b"\x04" + b"\xff" * 11 + b"\x01"), "malformed", "found a branch that its union has not"),
            (crafted(receive_timestamp=avro_long(2**60)[:4], vendor_data=b""), "truncated", "expected a whole record"),
            (
                crafted(receive_timestamp=avro_long(2**63 - 1)) + b"\x00",
                "malformed",
                "found bytes that are no record (OverflowError",
            ),
            (crafted(price=avro_bytes(b"\x01" + bytes(16))), "malformed", "expected a record in range"),
            (crafted(price=avro_bytes(b"")), "price_not_positive", "found price 0.00000000, expected more than 0"),
            (crafted(price=avro_bytes(b"\xff")), "price_not_positive", "found price -0.00000001"),
            (crafted(price=avro_bytes((10**18).to_bytes(8, "big"))), "price_precision", "found price 10000000000.0"),
            (crafted(side=b"\x02" + avro_bytes(b"BUY")), "side_unknown", "found side 'BUY', expected buy, sell or"),
            (crafted(message_id=avro_bytes(b"")), "message_id_empty", "found an empty message_id, expected text"),
            (crafted(receive_timestamp=avro_long(0)), "receive_timestamp_range", "found receive_timestamp 0 us since"),
        ],
        ids=[
            "null",
            "empty",
            "three-bytes",
            "prefix-alone",
            "last-byte-missing",
            "json",
            "unknown-id",
            "unknown-id-before-a-good-body",
            "another-type",
            "one-byte-more",
            "two-bodies",
            "two-values",
            "room-of-a-guard",
            "no-utf8",
            "endless-number",
            "endless-number-in-no-branch",
            "number-cut-off",
            "time-beyond-all-calendars-and-a-byte-more",
            "decimal-of-17-bytes",
            "price-zero",
            "price-negative",
            "price-precision",
            "side",
            "no-message-id",
            "no-time",
        ],
    )
    def test_each_reason(self, value: bytes | None, reason: str, detail: str) -> None:
        found = verdict(value)
        assert found is not None
        assert (found[0], detail in found[1]) == (reason, True), found

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param({"message_id": avro_long(-3) + b"abc"}, id="negative-length"),
            pytest.param({"message_id": avro_long(2**62)}, id="length-of-exabytes"),
            pytest.param({"message_id": avro_long(400_000_000)}, id="length-of-megabytes"),
            pytest.param({"vendor_data": avro_long(2**62) + avro_bytes(b"k") * 2}, id="map-of-exa-entries"),
            pytest.param({"vendor_data": avro_long(-(2**63)) + avro_long(4)}, id="map-of-minus-exa-entries"),
        ],
    )
    def test_sizes_that_lie_are_no_reason_to_hang_or_to_reserve(self, part: dict[str, bytes]) -> None:
        found = verdict(crafted(**part))
        assert found is not None
        assert found[0] == "truncated"

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param({}, id="plain"),
            pytest.param({"price": avro_bytes(bytes(16) + b"\x01")}, id="decimal-with-zeros-before"),
            pytest.param({"sequence": b"\x82\x00" + b"\x82\x80\x00"}, id="numbers-with-zeros-behind"),
            pytest.param({"vendor_data": avro_long(-1) + avro_long(4) + avro_bytes(b"k") * 2 + b"\0"}, id="sized-map"),
        ],
    )
    def test_odd_but_valid_encodings_are_read(self, part: dict[str, bytes]) -> None:
        assert verdict(crafted(**part)) is None

    def test_many_bad_ones_among_many_good_ones(self) -> None:
        trades = make_trades(3_000)
        values: list[bytes | None] = [encode(trade) for trade in trades]
        bad = set(range(0, 3_000, 7)) | set(range(500, 640))
        for at in bad:
            values[at] = (values[at] or b"")[: 20 + at % 30]
        decoded = decoder().decode(values)
        assert [rejected.index for rejected in decoded.rejected] == sorted(bad)
        assert plain_rows(decoded.rows) == [trade for at, trade in enumerate(trades) if at not in bad]

    def test_decoded_and_checked_rejections_are_in_one_order(self) -> None:
        values = [encode(GOOD[0] | {"side": "up"}), b"", encode(GOOD[1]), encode(GOOD[2] | {"symbol": ""}), b"\xff" * 9]
        decoded = decoder().decode(values)
        found = [(bad.index, bad.reason) for bad in decoded.rejected]
        assert found == [
            (0, "side_unknown"),
            (1, "truncated"),
            (3, "symbol_empty"),
            (4, "foreign_format"),
        ]
        assert decoded.indexes.tolist() == [2]

    @pytest.mark.parametrize(
        "garbage",
        [
            pytest.param([b"\x00" + at.to_bytes(4, "big") + b"x" * 40 for at in range(20_000)], id="an-id-each"),
            pytest.param([PREFIX + b"\x0a" * 60] * 2_000, id="no-such-branch"),
            pytest.param([encode(GOOD[0])[:-3]] * 60_000, id="cut-off"),
        ],
    )
    @pytest.mark.timeout(20)
    def test_a_flood_of_garbage_is_refused_in_time(self, garbage: list[bytes]) -> None:
        assert len(decoder().decode(garbage).rejected) == len(garbage)


def changed(change: str) -> Any:
    """A writer's schema that differs from the packaged one in one way."""
    schema: Any = copy.deepcopy(TRADES.avro)
    fields: list[Any] = schema["fields"]
    by_name = {field["name"]: field for field in fields}
    match change:
        case "added":
            fields.insert(3, {"name": "note", "type": ["null", "string"], "default": None})
        case "lacking":
            fields.remove(by_name["sequence"])
        case "reordered":
            fields.reverse()
        case "lacking_required":
            fields.remove(by_name["price"])
        case "nullable_required":
            by_name["price"]["type"] = ["null", by_name["price"]["type"]]
        case "other_scale":
            by_name["price"]["type"]["scale"] = 4
        case "other_type":
            by_name["symbol"]["type"] = "long"
        case "recursive":
            fields.append({"name": "parent", "type": ["null", "TradeV2"], "default": None})
        case "three_branches":
            by_name["sequence"]["type"] = ["null", "long", "string"]
    return schema


class TestVersions:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            pytest.param("added", GOOD, id="a-column-more"),
            pytest.param("lacking", [trade | {"sequence": None} for trade in GOOD], id="a-nullable-column-less"),
            pytest.param("reordered", GOOD, id="another-order"),
        ],
    )
    def test_compatible_writers(self, change: str, expected: list[Record]) -> None:
        schema = changed(change)
        values = [wire_prefix(9) + encode_body(trade | {"note": "x"}, schema) for trade in GOOD]
        decoded = decoder({9: schema}).decode(values)
        assert decoded.rejected == ()
        assert plain_rows(decoded.rows) == expected
        assert decoded.rows.schema == TRADES.wire_schema

    def test_mixed_versions_keep_the_order_of_the_log(self) -> None:
        schemas = {7: changed("added"), 8: changed("lacking"), 9: changed("lacking_required")}
        trades = make_trades(90)
        values: list[bytes | None] = []
        for at, trade in enumerate(trades):
            schema_id = (TRADES.packaged_id, 7, 8)[at % 3]
            schema = schemas.get(schema_id, TRADES.avro)
            values.append(wire_prefix(schema_id) + encode_body(trade, schema))
        values[40] = wire_prefix(9) + encode_body(trades[40], schemas[9])
        values[41] = wire_prefix(7) + b"\x01"
        decoded = decoder(schemas).decode(values)
        assert [(bad.index, bad.reason) for bad in decoded.rejected] == [(40, "foreign_schema"), (41, "truncated")]
        assert decoded.indexes.tolist() == [at for at in range(90) if at not in {40, 41}]
        assert plain_rows(decoded.rows) == [
            trade | {"sequence": None} if at % 3 == 2 else trade
            for at, trade in enumerate(trades)
            if at not in {40, 41}
        ]

    @pytest.mark.parametrize(
        ("schema", "detail"),
        [
            (changed("lacking_required"), r"price: found no such field, expected decimal128\(18, 8\)"),
            (changed("nullable_required"), r"price: found decimal128\(18, 8\) or null, expected decimal128\(18, 8\)"),
            (changed("other_scale"), r"price: found decimal128\(18, 4\), expected decimal128\(18, 8\)"),
            (changed("other_type"), "symbol: found int64, expected string"),
            (changed("three_branches"), "sequence: found the union"),
            (changed("recursive"), "TradeV2"),
            (QUOTES.avro, "trade_id: found no such field"),
            ({"type": "enum", "name": "E", "symbols": ["A"]}, "no trades"),
            ({"type": "record", "name": "R", "fields": 3}, "no trades"),
            ({"type": "record", "name": "R", "fields": [{"name": "x"}]}, "missing 'type'"),
            ({}, "no trades"),
            ("string", "no trades"),
            (["null", "string"], "no trades"),
        ],
        ids=[
            "required-missing",
            "required-nullable",
            "scale",
            "type",
            "union",
            "recursive",
            "quotes",
            "enum",
            "no-list",
            "no-type",
            "nothing",
            "string",
            "top-union",
        ],
    )
    def test_foreign_schemas_cost_their_values_only(self, schema: Any, detail: str) -> None:
        decoded = decoder({9: schema}).decode([encode(GOOD[0]), wire_prefix(9) + b"abc", encode(GOOD[1])])
        assert plain_rows(decoded.rows) == GOOD[:2]
        (bad,) = decoded.rejected
        assert (bad.index, bad.reason) == (1, "foreign_schema")
        with pytest.raises(RecordError, match=detail):
            raise RecordError(bad.reason, bad.detail)

    def test_schemas_are_asked_for_once(self) -> None:
        asked: list[int] = []

        def by_id(schema_id: int) -> Mapping[str, Any]:
            asked.append(schema_id)
            return TRADES.avro

        again = BatchDecoder(TRADES, by_id)
        for _ in range(3):
            again.decode([encode(GOOD[0]), b"bad", encode(GOOD[1])])
        assert asked == [TRADES.packaged_id]


def test_wire_prefix_is_confluents() -> None:
    assert wire_prefix(1_000_001) == b"\x00\x00\x0f\x42\x41"


def test_the_packaged_schema_is_json_all_the_way() -> None:
    # The guarded block's schema is made of it; a type that JSON cannot hold would only fail at run time.
    assert json.loads(json.dumps(TRADES.avro)) == TRADES.avro
