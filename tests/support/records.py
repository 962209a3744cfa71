"""Records for tests: trades and quotes as Python objects, and as the bytes that Kafka holds.

Deterministic: the same arguments give the same records on every machine, whatever ran before. Ids are contiguous per
symbol, event times never go back, prices walk. `encode` writes with fastavro and puts the wire prefix before it: the
slow, obvious way, so that it is an oracle for K2's own encoder and decoder.

    trades = make_trades(1_000, symbols=("BTCUSDT", "ETHUSDT"), seed=7)
    values = [encode(trade) for trade in trades]          # what a topic holds
    assert plain_rows(decoded.rows) == trades             # what must come out again
    broken = encode(trades[0] | {"side": "maybe"})        # a record that must be refused
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias

import fastavro
import pyarrow as pa

from k2_core.codec import wire_prefix
from k2_core.records import QUOTES, RECORD_TYPES, TRADES, RecordType

Record: TypeAlias = dict[str, Any]
"""A record by field name: `Decimal` numbers, aware UTC datetimes, `vendor_data` as a dict."""

DEFAULT_START: Final = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
"""A Monday; the exchange time of the first record unless a test says otherwise."""
_CENTS: Final = Decimal("0.01")


def make_trades(
    count: int,
    *,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
    seed: int = 1,
    first_id: int = 1,
    start: datetime = DEFAULT_START,
    step: timedelta = timedelta(milliseconds=10),
) -> list[Record]:
    """Return trades of a venue that counts them.

    Args:
        count: How many, over all symbols.
        symbols: Drawn from at random; each counts its own ids.
        seed: Of everything that varies.
        first_id: Where each symbol's ids begin; the next call goes on there with `first_id` of its own.
        start: Exchange time of the first trade, aware.
        step: Longest time between two trades; zero makes all of one microsecond.
    """
    draw = random.Random(f"{seed}/trades")  # not for secrets
    next_id = dict.fromkeys(symbols, first_id)
    price = {symbol: Decimal(draw.randrange(100, 10_000_000)) * _CENTS for symbol in symbols}
    at = start
    trades: list[Record] = []
    for _ in range(count):
        symbol = draw.choice(symbols)
        trade_id, next_id[symbol] = next_id[symbol], next_id[symbol] + 1
        price[symbol] = max(_CENTS, price[symbol] + draw.randint(-50, 50) * _CENTS)
        trades.append(
            {
                "message_id": f"binance:spot:{symbol}:{trade_id}",
                "symbol": symbol,
                "exchange": "binance",
                "market": "spot",
                "asset_class": "crypto",
                "trade_id": str(trade_id),
                "sequence": trade_id,
                "side": draw.choice(("buy", "sell")),
                "price": price[symbol].quantize(Decimal("1e-8")),
                "quantity": Decimal(draw.randrange(1, 10**10)).scaleb(-8),
                "exchange_timestamp": at,
                "receive_timestamp": at + timedelta(microseconds=draw.randrange(200, 5_000)),
                "vendor_data": {"event_time": str(1_767_600_000_000 + trade_id)} if draw.random() < 0.5 else {},
            }
        )
        at += step * draw.random()
    return trades


def make_quotes(
    count: int, *, symbols: Sequence[str] = ("BHP", "DVN"), seed: int = 1, start: datetime = DEFAULT_START
) -> list[Record]:
    """Return best bids and offers as of a file: a row number as id, no sequence, and now and then a side is absent."""
    draw = random.Random(f"{seed}/quotes")  # not for secrets
    return [_quote(draw, row, draw.choice(symbols), start + timedelta(milliseconds=5 * row)) for row in range(count)]


def _quote(draw: random.Random, row: int, symbol: str, at: datetime) -> Record:
    bid = Decimal(draw.randrange(100, 5_000)) * _CENTS
    has_bid, has_ask = draw.random() < 0.9, draw.random() < 0.9
    return {
        "message_id": f"{symbol.lower()}-quotes:{row}",
        "symbol": symbol,
        "exchange": "asx",
        "market": "equities",
        "asset_class": "equities",
        "quote_id": str(row),
        "sequence": None,
        "bid_price": bid.quantize(Decimal("1e-8")) if has_bid else None,
        "bid_quantity": Decimal(draw.randrange(1, 9_999)).quantize(Decimal("1e-8")) if has_bid else None,
        "ask_price": (bid + _CENTS).quantize(Decimal("1e-8")) if has_ask else None,
        "ask_quantity": Decimal(draw.randrange(1, 9_999)).quantize(Decimal("1e-8")) if has_ask else None,
        "exchange_timestamp": at,
        "receive_timestamp": at + timedelta(seconds=1),
        "vendor_data": {},
    }


def encode_body(record: Mapping[str, Any], avro: Mapping[str, Any]) -> bytes:
    """Return a record in Avro without the wire prefix."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(dict(avro)), record)
    return buffer.getvalue()


def encode(record: Mapping[str, Any], record_type: RecordType = TRADES, *, schema_id: int | None = None) -> bytes:
    """Return a Kafka value: magic byte, schema id (None: the packaged one), Avro body."""
    return wire_prefix(record_type.packaged_id if schema_id is None else schema_id) + encode_body(
        record, _PARSED[record_type.name]
    )


_PARSED: Final[dict[str, Any]] = {kind.name: fastavro.parse_schema(dict(kind.avro)) for kind in RECORD_TYPES.values()}


def plain_rows(rows: pa.Table) -> list[Record]:
    """Return Arrow rows as the records that they were made of (Arrow gives maps as lists of pairs)."""
    return [row | {"vendor_data": dict(row["vendor_data"])} for row in rows.to_pylist()]


def arrow_rows(records: Sequence[Mapping[str, Any]], record_type: RecordType = TRADES) -> pa.Table:
    """Return records in the wire's Arrow form, made by Arrow itself and not by K2's decoder."""
    return pa.Table.from_pylist([dict(record) for record in records], schema=record_type.wire_schema)


__all__ = [
    "DEFAULT_START",
    "QUOTES",
    "TRADES",
    "Record",
    "arrow_rows",
    "encode",
    "encode_body",
    "make_quotes",
    "make_trades",
    "plain_rows",
]
