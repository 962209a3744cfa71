"""Binance spot: from the bytes of one WebSocket message to one trade, or to what else it says.

Owns the exchange's wire format ("WebSocket Streams for Binance": combined and raw streams, milliseconds or
microseconds, order ids present or absent) and what of it may become a record. Called by the hot loop in `pipeline`,
once a message. Pure: bytes in, values out; it never guesses, what it cannot read exactly is refused with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final, TypeAlias

import msgspec

from k2_core.checks import EARLIEST, LATEST
from k2_core.errors import RecordError
from k2_core.types import Symbol
from k2_ingest.decimals import PRICE_LIMIT, QUANTITY_LIMIT, scaled
from k2_ingest.trade import Trade

EXCHANGE: Final = "binance"
MARKET: Final = "spot"
ASSET_CLASS: Final = "crypto"

_EARLIEST_US: Final = int(EARLIEST.timestamp()) * 1_000_000
_LATEST_US: Final = int(LATEST.timestamp()) * 1_000_000
_SHOWN_BYTES: Final = 80

# Documented streams that K2 does not record (yet): counted, not dead letters.
_OTHER_STREAM: Final = re.compile(
    r"[^@!]*@(aggTrade|bookTicker|blockTrade|kline_.+|miniTicker|ticker(_.+)?|avgPrice|referencePrice|depth\d*(@\d+ms)?)"
    r"|!(miniTicker|ticker|bookTicker).*"
)
_OTHER_EVENTS: Final = frozenset(
    ("aggTrade", "blockTrade", "kline", "24hrMiniTicker", "24hrTicker", "avgPrice", "referencePrice", "depthUpdate")
)
_BOOK_TICKER_FIELDS: Final = frozenset("usbBaA")  # the one raw message without an event type


class TimeUnit(Enum):
    """Unit of the times on the wire; the value is how many microseconds one of it has."""

    MILLISECOND = 1_000
    MICROSECOND = 1


class Notice(Enum):
    """A message that is no market data."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    SERVER_SHUTDOWN = "server_shutdown"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A documented stream that nobody asked for, by its kind (`bookTicker`)."""

    kind: str


Message: TypeAlias = Trade | Notice | Ignored


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _RawTrade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    E: _Count
    s: str
    t: _Count
    p: str
    q: str
    T: _Count
    m: bool
    b: _Count | None = None
    a: _Count | None = None


class _Combined(msgspec.Struct, gc=False):
    stream: str
    data: _RawTrade


# A hostile nesting is refused by depth.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_combined = msgspec.json.Decoder(_Combined).decode
_decode_raw = msgspec.json.Decoder(_RawTrade).decode


def stream_name(symbol: Symbol) -> str:
    """The trade stream of a symbol; the exchange wants it in lower case."""
    return f"{symbol.lower()}@trade"


def stream_path(symbols: Iterable[Symbol], unit: TimeUnit) -> str:
    """Path and query that subscribe to the trades of these symbols on one combined connection."""
    streams = "/".join(stream_name(symbol) for symbol in symbols)
    suffix = "&timeUnit=MICROSECOND" if unit is TimeUnit.MICROSECOND else ""
    return f"/stream?streams={streams}{suffix}"


def subscription(symbols: Iterable[Symbol], number: int) -> bytes:
    """The message that subscribes an open connection to the trades of more symbols; its answer has the number."""
    streams = [stream_name(symbol) for symbol in symbols]
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": streams, "id": number})


class Parser:
    """Reads the messages of one connection.

    Args:
        symbols: What was subscribed to, upper case.
        unit: Unit of the times, as asked for in the URL. It is never guessed from a value's magnitude: a value that is
            out of range in this unit is refused.
    """

    def __init__(self, symbols: Iterable[Symbol], unit: TimeUnit) -> None:
        self._symbols: Mapping[str, Symbol] = {stream_name(symbol): symbol for symbol in symbols}
        self._names: Mapping[str, Symbol] = {symbol: symbol for symbol in self._symbols.values()}
        self._unit_us = unit.value

    def parse(self, payload: bytes) -> Message:
        """Read one message.

        Raises:
            RecordError: It can become neither a record nor anything else that is known; the reason is stable.
        """
        try:
            if payload.startswith(b'{"stream"'):
                combined = _decode_combined(payload)
                raw = combined.data
                symbol = self._symbols[combined.stream]
                if raw.s != symbol:
                    return self._explain(payload)
            else:
                raw = _decode_raw(payload)
                symbol = self._names[raw.s]
        except (*_UNREADABLE, KeyError):
            return self._explain(payload)
        return self._trade(symbol, raw)

    def _trade(self, symbol: Symbol, raw: _RawTrade) -> Trade:
        exchange_us = raw.T * self._unit_us
        if not _EARLIEST_US <= exchange_us <= _LATEST_US:
            expected = f"expected {EARLIEST.year} to {LATEST.year} in {TimeUnit(self._unit_us).name.lower()}s"
            raise RecordError("exchange_timestamp_range", f"found T {raw.T}, {expected}")
        vendor: tuple[tuple[str, int], ...] = (("E", raw.E),)
        if raw.b is not None:
            vendor += (("b", raw.b),)
        if raw.a is not None:
            vendor += (("a", raw.a),)
        # m: the buyer is the maker, so the aggressor sold.
        price = scaled("price", raw.p, PRICE_LIMIT)
        return Trade(symbol, raw.t, raw.m, price, scaled("quantity", raw.q, QUANTITY_LIMIT), exchange_us, vendor)

    def _explain(self, payload: bytes) -> Message:
        """Read a message that is not as the exchange writes our trades; off the hot path."""
        shown = f"found {payload[:_SHOWN_BYTES]!r}"
        try:
            body = msgspec.json.decode(payload)
        except _UNREADABLE as error:
            raise RecordError("malformed_json", f"{error}; {shown}") from error
        if not isinstance(body, dict):
            raise RecordError("malformed_message", f"{shown}, expected an object")
        stream, data = body.get("stream"), body.get("data", body)
        fields = data if isinstance(data, dict) else {}
        notice = _notice(fields)
        if notice is not None:
            return notice
        if not self._claims_to_be_ours(stream, fields):
            kind = _other_kind(stream, fields)
            if kind is None:
                raise RecordError("unknown_stream", f"{shown}, expected one of {len(self._symbols)} streams")
            return Ignored(kind)
        try:
            raw = msgspec.convert(data, _RawTrade)
        except msgspec.ValidationError as error:
            raise RecordError("malformed_trade", f"{error}; {shown}") from error
        symbol = self._names.get(raw.s)
        if symbol is None or stream not in (None, stream_name(symbol)):
            raise RecordError("stream_mismatch", f"found symbol {raw.s!r} on {stream!r}, expected its own stream")
        # Correct, only spaced or ordered otherwise than usual.
        return self._trade(symbol, raw)

    def _claims_to_be_ours(self, stream: object, fields: Mapping[str, object]) -> bool:
        if stream is not None:
            return isinstance(stream, str) and stream in self._symbols
        return fields.get("e") == "trade" and fields.get("s", "") in (*self._names, "")


def _notice(data: Mapping[str, object]) -> Notice | None:
    if data.get("e") == "serverShutdown":
        return Notice.SERVER_SHUTDOWN
    if "result" in data and "id" in data:
        return Notice.ACKNOWLEDGED
    if "error" in data or data.keys() >= {"code", "msg"}:
        return Notice.REFUSED
    return None


def _other_kind(stream: object, fields: Mapping[str, object]) -> str | None:
    """The kind of a documented stream that K2 does not record; None when it is none."""
    if isinstance(stream, str):
        kind = re.split(r"[@_]", stream.partition("@")[2] or stream.lstrip("!"), maxsplit=1)[0].rstrip("0123456789")
        return kind if _OTHER_STREAM.fullmatch(stream) else None
    if fields.keys() >= _BOOK_TICKER_FIELDS:
        return "bookTicker"
    event = fields.get("e")
    return event if isinstance(event, str) and event in _OTHER_EVENTS else None
