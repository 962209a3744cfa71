"""Raw capture files as a stream of events.

Owns the capture format: a line is `<receive time, ns> <JSON>`, the JSON being a combined-stream message. Called by the
exchange's pump, and by anybody who wants to know what a capture holds. Reads line by line: memory does not grow with
the files. It never sorts within a file (a recorder writes in receive order) and never alters a payload.
"""

from __future__ import annotations

import gzip
import heapq
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import IO, cast

import msgspec

from k2_core.errors import SetupError
from k2_ingest.exchange.messages import CapturedEvent, Trade, scaled

UNWRAPPED = "unwrapped"  # a REST snapshot that the recorder wrote between the messages
MALFORMED = "malformed"  # not a capture line, or its JSON does not parse


class _Wrapped(msgspec.Struct):
    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _TradeData(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    trade_id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    time: int = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


_wrapped = msgspec.json.Decoder(_Wrapped)
_trade_data = msgspec.json.Decoder(_TradeData)


class Captures:
    """Capture files merged in receive-time order.

    Args:
        files: Plain or gzip-compressed files.
        pass_malformed: Yield lines that do not parse as events without a stream, instead of skipping them.

    Attributes:
        skipped: Lines that gave no event, by reason; complete once the iteration is.
    """

    def __init__(self, files: tuple[Path, ...], *, pass_malformed: bool = False) -> None:
        self.files = files
        self.skipped: Counter[str] = Counter()
        self._pass_malformed = pass_malformed

    def __iter__(self) -> Iterator[CapturedEvent]:
        """All events of all files.

        Raises:
            SetupError: A file cannot be read, or ends in the middle of its compressed data.
        """
        return heapq.merge(*map(self._events, self.files), key=attrgetter("receive_ns"))

    def _events(self, path: Path) -> Iterator[CapturedEvent]:
        receive_ns = 0
        try:
            with _open(path) as lines:
                for line in lines:
                    event = self._event(line, receive_ns)
                    if event is not None:
                        receive_ns = event.receive_ns
                        yield event
        except (OSError, EOFError) as error:
            raise SetupError(f"capture {path}: {error}, expected a readable file, plain or gzip") from error

    def _event(self, line: bytes, previous_ns: int) -> CapturedEvent | None:
        time_text, _, text = line.rstrip(b"\r\n").partition(b" ")
        try:
            receive_ns = int(time_text)
            wrapped = _wrapped.decode(text)
        except (ValueError, msgspec.DecodeError):
            return self._malformed(text or time_text, previous_ns)
        if wrapped.stream is None:
            self.skipped[UNWRAPPED] += 1
            return None
        data = bytes(wrapped.data)
        return CapturedEvent(wrapped.stream, _trade(wrapped.stream, data), data, receive_ns)

    def _malformed(self, text: bytes, receive_ns: int) -> CapturedEvent | None:
        if self._pass_malformed:
            return CapturedEvent(None, None, text, receive_ns)
        self.skipped[MALFORMED] += 1
        return None


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _trade(stream: str, data: bytes) -> Trade | None:
    """The trade for the history; None where the stream has none or the data is deliberately bad."""
    if not stream.endswith("@trade"):
        return None
    try:
        raw = _trade_data.decode(data)
        price, quantity = scaled(raw.price), scaled(raw.quantity)
    except (ValueError, msgspec.DecodeError):
        return None
    return Trade(raw.symbol, raw.trade_id, price, quantity, raw.time * 1_000, raw.buyer_is_maker)
