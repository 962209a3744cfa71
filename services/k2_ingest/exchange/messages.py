"""What the test exchange says: trades, their JSON and the WebSocket frames around it.

Owns the wire forms of the exchange's documentation ("Trade Streams", "General WSS information"). Called by the sources,
the history and the hub. Pure: it never touches a socket or a clock.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple, Protocol

SCALE = 10**8  # the exchange prints prices and quantities with 8 decimals

_MILLISECOND_TIMES = re.compile(rb'("[ET]":\d{13})(?=[,}])')
_FIN_TEXT = 0x81  # RFC 6455, 5.2: final fragment, opcode 1


class TimeUnit(Enum):
    """Unit of the time fields, chosen by the client with `timeUnit=`."""

    MILLISECOND = "ms"
    MICROSECOND = "us"


class Variant(NamedTuple):
    """How one connection wants its messages."""

    combined: bool
    unit: TimeUnit


class Trade(NamedTuple):
    """One trade, as the history keeps it.

    Prices and quantities are integers scaled by 10**8, times are UTC microseconds.
    """

    symbol: str
    trade_id: int
    price: int
    quantity: int
    time_us: int
    buyer_is_maker: bool


class Event(Protocol):
    """One message of a stream."""

    @property
    def stream(self) -> str | None:
        """The stream's name, None for bytes that go to everybody."""

    @property
    def trade(self) -> Trade | None:
        """The trade in it, None on all but trade streams."""

    def payload(self, unit: TimeUnit) -> bytes:
        """The raw stream's JSON in the given time unit."""


class CapturedEvent(NamedTuple):
    """A message of a capture file; its payload is byte for byte what was captured."""

    stream: str | None
    trade: Trade | None
    data: bytes
    receive_ns: int

    def payload(self, unit: TimeUnit) -> bytes:
        """The captured payload; microseconds are the captured milliseconds and three zeros."""
        if unit is TimeUnit.MILLISECOND:
            return self.data
        return _MILLISECOND_TIMES.sub(rb"\g<1>000", self.data)


class SyntheticEvent(NamedTuple):
    """A generated trade."""

    stream: str
    trade: Trade
    order_ids: bool

    def payload(self, unit: TimeUnit) -> bytes:
        """The trade's JSON with keys in the documented order."""
        _, trade_id, price, quantity, time_us, buyer_is_maker = self.trade
        time = time_us if unit is TimeUnit.MICROSECOND else time_us // 1_000
        orders = f'"b":{2 * trade_id + 1},"a":{2 * trade_id},' if self.order_ids else ""
        return (
            f'{{"e":"trade","E":{time},"s":"{self.trade.symbol}","t":{trade_id},"p":"{decimal(price)}",'
            f'"q":"{decimal(quantity)}",{orders}"T":{time},"m":{"true" if buyer_is_maker else "false"},"M":true}}'
        ).encode()


def decimal(number: int) -> str:
    """A scaled integer as the exchange prints it: `61837.63000000`."""
    return f"{number // SCALE}.{number % SCALE:08d}"


def scaled(text: str) -> int:
    """The integer behind a printed decimal; digits past the eighth are cut, as only captures could hold any.

    Raises:
        ValueError: The text is not a plain decimal number without a sign.
    """
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdecimal() or not text.isascii():
        raise ValueError(f"found {text!r}, expected a plain decimal number")
    return int(whole or "0") * SCALE + int(fraction[:8].ljust(8, "0"))


def envelope(stream: str | None, payload: bytes, variant: Variant) -> bytes:
    """The message a connection of this variant gets: wrapped with the stream's name, or raw."""
    if not variant.combined or stream is None:
        return payload
    return b'{"stream":"%b","data":%b}' % (stream.encode(), payload)


def text_frame(payload: bytes) -> bytes:
    """One unmasked WebSocket text frame (RFC 6455, 5.2), ready to be written to any number of connections."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN_TEXT, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload


def server_shutdown(time_ms: int, variant: Variant) -> bytes:
    """The notice that precedes a disconnection by the server."""
    time = time_ms * 1_000 if variant.unit is TimeUnit.MICROSECOND else time_ms
    return envelope("!serverShutdown", b'{"e":"serverShutdown","E":%d}' % time, variant)
