"""The encoder writes what fastavro writes, byte for byte, and nothing but the packaged schema."""

from __future__ import annotations

import copy
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.codec import BatchDecoder, wire_prefix
from k2_core.errors import SchemaError
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import Symbol
from k2_ingest.encode import Identity, TradeEncoder, avro_long, check_layout
from k2_ingest.trade import Trade

SCHEMA = fastavro.parse_schema(dict(TRADES.avro))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BTC = Symbol("BTCUSDT")
LONGS = st.integers(min_value=0, max_value=2**63 - 1)
TIMES = st.integers(min_value=0, max_value=4_102_444_800_000_000)
TRADE = st.builds(
    Trade,
    st.from_regex(r"[A-Z0-9]{1,20}", fullmatch=True).map(Symbol),
    LONGS,
    st.booleans(),
    st.integers(min_value=1, max_value=10**18 - 1),
    st.integers(min_value=1, max_value=10**28 - 1),
    TIMES,
    st.sampled_from([(), ("E",), ("E", "b", "a")]).flatmap(
        lambda keys: st.tuples(*(st.tuples(st.just(key), LONGS) for key in keys))
    ),
)


def encoder(symbol: Symbol = BTC, schema_id: int = TRADES.packaged_id) -> TradeEncoder:
    return TradeEncoder(Identity("binance", "spot", "crypto", symbol), schema_id)


def record(trade: Trade, receive_us: int) -> dict[str, Any]:
    return {
        "message_id": f"binance:spot:{trade.symbol}:{trade.trade_id}",
        "symbol": trade.symbol,
        "exchange": "binance",
        "market": "spot",
        "asset_class": "crypto",
        "trade_id": str(trade.trade_id),
        "sequence": trade.trade_id,
        "side": "sell" if trade.sold else "buy",
        "price": Decimal(trade.price) / 10**8,
        "quantity": Decimal(f"{trade.quantity // 10**8}.{trade.quantity % 10**8:08d}"),
        "exchange_timestamp": EPOCH + timedelta(microseconds=trade.exchange_us),
        "receive_timestamp": EPOCH + timedelta(microseconds=receive_us),
        "vendor_data": {key: str(number) for key, number in trade.vendor},
    }


@given(TRADE, TIMES)
def test_bytes_are_those_of_fastavro(trade: Trade, receive_us: int) -> None:
    reference = io.BytesIO()
    reference.write(wire_prefix(TRADES.packaged_id))
    fastavro.schemaless_writer(reference, SCHEMA, record(trade, receive_us))
    assert encoder(trade.symbol).encode(trade, receive_us) == reference.getvalue()


def test_the_batch_decoder_reads_it() -> None:
    trades = [
        Trade(BTC, number, number % 2 == 0, 10**8 + number, 10**20, 10**15 + number, (("E", 5),))
        for number in range(99)
    ]
    values = [encoder().encode(trade, 10**15) for trade in trades]
    decoded = BatchDecoder(TRADES, PackagedSchemas().by_id).decode(values)
    assert decoded.rejected == ()
    assert [row | {"vendor_data": dict(row["vendor_data"])} for row in decoded.rows.to_pylist()] == [
        record(trade, 10**15) for trade in trades
    ]


def test_the_schema_id_is_on_the_wire() -> None:
    trade = Trade(BTC, 1, True, 1, 1, 1, ())
    assert encoder(schema_id=42).encode(trade, 1).startswith(b"\x00\x00\x00\x00\x2a")


@pytest.mark.parametrize("number", [0, 1, 63, 64, 8_191, 8_192, 8_193, 2**20, 2**62, 2**63 - 1])
def test_a_long_is_zig_zag_and_varint(number: int) -> None:
    reference = io.BytesIO()
    fastavro.schemaless_writer(reference, "long", number)
    assert avro_long(number) == reference.getvalue()


def test_many_different_numbers_stay_exact_and_bounded() -> None:
    for number in range(0, 2**40, 2**26 - 1):
        reference = io.BytesIO()
        fastavro.schemaless_writer(reference, "long", number)
        assert avro_long(number) == reference.getvalue()


def change_type(schema: dict[str, Any]) -> None:
    schema["fields"][0]["type"] = "long"


def add_field(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "new", "type": "string"})


def swap_fields(schema: dict[str, Any]) -> None:
    schema["fields"][0], schema["fields"][1] = schema["fields"][1], schema["fields"][0]


@pytest.mark.parametrize(
    ("change", "named"), [(change_type, "message_id"), (add_field, "new"), (swap_fields, "order of the fields")]
)
def test_another_schema_is_refused(change: Any, named: str) -> None:
    schema = copy.deepcopy(dict(TRADES.avro))
    check_layout(schema)
    change(schema)
    with pytest.raises(SchemaError, match=named):
        check_layout(schema)
