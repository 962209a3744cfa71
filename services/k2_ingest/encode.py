"""Trades to Kafka values: magic byte, schema id, Avro body, without fastavro's cost a record.

Owns the byte layout of `k2_core/schemas/trade_v2.avsc` as the ingest writes it. Called by the hot loop in `pipeline`.
What is the same for all trades of a symbol is encoded once; numbers are written from integers. The layout is checked
against the schema when an encoder is made, and property-tested byte for byte against fastavro. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2_core.codec import wire_prefix
from k2_core.errors import SchemaError
from k2_core.records import TRADES
from k2_core.types import Symbol
from k2_ingest.trade import Trade

_STRING: Final = "string"
_LAYOUT: Final[Mapping[str, object]] = {
    "message_id": _STRING,
    "symbol": _STRING,
    "exchange": _STRING,
    "market": _STRING,
    "asset_class": _STRING,
    "trade_id": _STRING,
    "sequence": ["null", "long"],
    "side": ["null", _STRING],
    "price": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 8},
    "quantity": {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": 8},
    "exchange_timestamp": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
    "receive_timestamp": {"type": "long", "logicalType": "timestamp-micros"},
    "vendor_data": {"type": "map", "values": _STRING},
}
PRESENT: Final = b"\x02"  # second branch of a union with null
ABSENT: Final = b"\x00"
END_OF_MAP: Final = b"\x00"
_LOW_BITS: Final = 14
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
_MEMO_LIMIT: Final = 8_192  # entries; a quarter of a MiB at most


def unsigned_varint(number: int) -> bytes:
    """A number in groups of seven bits, low ones first (Avro 1.11, "Primitive Types")."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Memo(dict[int, bytes]):
    """Varints of the high bits of numbers that only grow: they stay the same for thousands of records."""

    def __missing__(self, number: int) -> bytes:
        if len(self) >= _MEMO_LIMIT:
            self.clear()
        encoded = self[number] = unsigned_varint(number)
        return encoded


_LOW: Final = tuple(bytes((low & 0x7F | 0x80, low >> 7 | 0x80)) for low in range(_LOW_MASK + 1))
LENGTHS: Final = tuple(unsigned_varint(2 * length) for length in range(256))
_high = _Memo()


def avro_long(number: int) -> bytes:
    """A number of 0 or more as an Avro long: zig-zag, then a varint."""
    zigzag = number << 1
    if zigzag <= _LOW_MASK:
        return unsigned_varint(zigzag)
    return _LOW[zigzag & _LOW_MASK] + _high[zigzag >> _LOW_BITS]


def avro_string(text: str) -> bytes:
    """A text as an Avro string."""
    encoded = text.encode()
    return avro_long(len(encoded)) + encoded


_BUY: Final = PRESENT + avro_string("buy")
_SELL: Final = PRESENT + avro_string("sell")


def check_layout(schema: Mapping[str, Any]) -> None:
    """Check that this module writes what the schema says.

    Raises:
        SchemaError: The schema's fields are not the ones written here, in this order.
    """
    found = {field["name"]: field["type"] for field in schema["fields"]}
    if list(found.items()) != list(_LAYOUT.items()):
        differing = {name for name in found.keys() | _LAYOUT.keys() if found.get(name) != _LAYOUT.get(name)}
        where = ", ".join(sorted(differing)) or "the order of the fields"
        raise SchemaError(f"trade schema: found others than the encoder writes ({where}), expected {list(_LAYOUT)}")


@dataclass(frozen=True, slots=True)
class Identity:
    """What all trades of one symbol of one venue have in common.

    Args:
        exchange: The venue, such as `binance`.
        market: The venue's market, such as `spot`.
        asset_class: Such as `crypto`.
        symbol: The venue's symbol.
    """

    exchange: str
    market: str
    asset_class: str
    symbol: Symbol


class TradeEncoder:
    """Encodes the trades of one symbol of one venue.

    Args:
        identity: Whose trades.
        schema_id: The id on the wire; a registry's, or the packaged one.

    Raises:
        SchemaError: The packaged schema is not the one that this module writes.
    """

    def __init__(self, identity: Identity, schema_id: int = TRADES.packaged_id) -> None:
        check_layout(TRADES.avro)
        self._prefix = wire_prefix(schema_id)
        self._id_prefix = f"{identity.exchange}:{identity.market}:{identity.symbol}:".encode()
        constants = (identity.symbol, identity.exchange, identity.market, identity.asset_class)
        self._constants = b"".join(map(avro_string, constants))

    def encode(self, trade: Trade, receive_us: int) -> bytes:
        """One Kafka value; the trade's id becomes `sequence` too.

        Args:
            trade: A trade of this symbol.
            receive_us: When this pipeline received it, UTC microseconds.
        """
        _, trade_id, sold, price, quantity, exchange_us, vendor = trade
        id_text = b"%d" % trade_id
        message_id = self._id_prefix + id_text
        # Two's complement in as few bytes as hold the number and its sign.
        price_size = (price.bit_length() + 8) >> 3
        quantity_size = (quantity.bit_length() + 8) >> 3
        return b"".join(
            (
                self._prefix,
                LENGTHS[len(message_id)],
                message_id,
                self._constants,
                LENGTHS[len(id_text)],
                id_text,
                PRESENT,
                avro_long(trade_id),
                _SELL if sold else _BUY,
                LENGTHS[price_size],
                price.to_bytes(price_size, "big"),
                LENGTHS[quantity_size],
                quantity.to_bytes(quantity_size, "big"),
                PRESENT,
                avro_long(exchange_us),
                avro_long(receive_us),
                _vendor_map(vendor),
            )
        )


def _vendor_map(vendor: Iterable[tuple[str, int]]) -> bytes:
    entries = [_KEYS[key] + LENGTHS[len(text)] + text for key, number in vendor for text in (b"%d" % number,)]
    return LENGTHS[len(entries)] + b"".join(entries) + END_OF_MAP if entries else END_OF_MAP


class _Keys(dict[str, bytes]):
    def __missing__(self, key: str) -> bytes:
        encoded = self[key] = avro_string(key)
        return encoded


_KEYS: Final = _Keys()
