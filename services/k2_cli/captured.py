"""What raw capture files hold, read independently of everything that replays them: the oracle of `k2 up --capture`.

It shares no code with the exchange, the ingest or the sink, so that a mistake of theirs cannot hide here: its own line
format, JSON parser and number rules. Called by `k2 up` (for the symbols) and by `k2_cli.verdict`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, TypeGuard

import pyarrow as pa

from k2_core.errors import SpecError

PRICE: Final = pa.decimal128(18, 8)
QUANTITY: Final = pa.decimal128(28, 8)
SCHEMA: Final = pa.schema(
    {
        "symbol": pa.string(),
        "trade_id": pa.int64(),
        "price": PRICE,
        "quantity": QUANTITY,
        "side": pa.string(),
        "exchange_us": pa.int64(),
    }
)
_TRADE_STREAM: Final = re.compile(r"([a-z0-9._-]+)@trade")
_EARLIEST_MS, _LATEST_MS = 631_152_000_000, 4_102_444_800_000  # 1990 and 2100, the range of K2's records
_SHOWN_BYTES: Final = 40
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(slots=True)
class Captured:
    """The trades of capture files.

    Args:
        columns: Of `SCHEMA`, one list each: the trades that can become records, in the order of the files.
        unfit: Lines that claim to be trades and cannot become records, and lines that are no JSON.
        symbols: Every symbol that has a trade stream, in the order of appearance.
    """

    columns: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in SCHEMA.names})
    unfit: int = 0
    symbols: dict[str, None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Trades that can become records, repeated ones too."""
        return len(self.columns["symbol"])

    def table(self) -> pa.Table:
        """Return the trades with exact numbers."""
        return pa.table({name: pa.array(self.columns[name], SCHEMA.field(name).type) for name in SCHEMA.names})


def read_captures(files: Iterable[Path]) -> Captured:
    """Read all files.

    Raises:
        SpecError: A file cannot be read, or holds nothing that a recorder writes.
    """
    captured = Captured()
    for path in files:
        first, recorded = b"", False
        try:
            for line in _lines(path):
                first = first or line
                recorded |= _take(captured, line)
        except (OSError, EOFError) as error:
            raise SpecError("--capture", f"{path} ({error})", "a readable capture, plain or gzip") from error
        if not recorded:
            found = f"{path} that begins with {ascii(first[:_SHOWN_BYTES])[1:]}" if first else f"{path} without a line"
            raise SpecError("--capture", found, "lines of `<receive time, ns> <JSON>`")
    if not captured.symbols:
        raise SpecError("--capture", "no line of a trade stream", "at least one `<symbol>@trade`")
    return captured


def _lines(path: Path) -> Iterator[bytes]:
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        magic = raw.peek(2)[:2]
        yield from stack.enter_context(gzip.open(raw)) if magic == _GZIP_MAGIC else raw


def _take(captured: Captured, line: bytes) -> bool:
    """Take a line in; returns whether it is one that a recorder writes."""
    time_text, _, text = line.strip().partition(b" ")
    try:
        int(time_text)
        message = json.loads(text)
    except ValueError:
        captured.unfit += 1
        return False
    stream = message.get("stream") if isinstance(message, dict) else None
    match = _TRADE_STREAM.fullmatch(stream) if isinstance(stream, str) else None
    if match is None:
        return True
    symbol = match[1].upper()
    captured.symbols[symbol] = None
    row = _row(symbol, message.get("data"))
    if row is None:
        captured.unfit += 1
        return True
    for name, value in zip(SCHEMA.names, row, strict=True):
        captured.columns[name].append(value)
    return True


def _row(symbol: str, data: object) -> tuple[object, ...] | None:
    """Return the values of a trade, or None if it cannot become a record."""
    if not isinstance(data, dict) or data.get("e") != "trade" or data.get("s") != symbol:
        return None
    trade_id, time_ms, maker = data.get("t"), data.get("T"), data.get("m")
    price, quantity = _number(data.get("p"), PRICE), _number(data.get("q"), QUANTITY)
    if price is None or quantity is None or not isinstance(maker, bool):
        return None
    if not _is_whole(trade_id, 0, 2**63 - 1) or not _is_whole(time_ms, _EARLIEST_MS, _LATEST_MS):
        return None
    return symbol, trade_id, price, quantity, "sell" if maker else "buy", time_ms * 1_000


def _is_whole(value: object, least: int, most: int) -> TypeGuard[int]:
    """Whether it is a JSON integer within bounds; true and false are none."""
    return type(value) is int and least <= value <= most


def _number(text: object, kind: pa.Decimal128Type) -> Decimal | None:
    """Return an exact number that its column can hold, or None."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]*\.?[0-9]*", text, re.ASCII):
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    fits = 0 < value < Decimal(10) ** (kind.precision - kind.scale)
    return value if fits and value == round(value, kind.scale) else None
