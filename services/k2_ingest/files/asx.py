"""ASX trades: from the lines of a file to columns of exact numbers, or to what is wrong with a line.

Owns the vendor's format: no header, `Date,Time,Price,Volume,Qualifier,Venue,BuyerID`, dates as MM/DD/YYYY, times of
Sydney. Called by `loading` with some thousands of lines at once. What is written as the vendor writes it is read by
columns; the few other lines one by one, by `read_line`, which says what a line means or why it means nothing. Pure; it
never guesses: a local time that a day has twice or not at all is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import compress
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.checks import EARLIEST, LATEST
from k2_core.errors import RecordError
from k2_core.records import OFF_MARKET_KEY
from k2_ingest.decimals import DECIMALS, PRICE_LIMIT, QUANTITY_LIMIT, scaled

Vendor: TypeAlias = tuple[tuple[str, str], ...]
"""What the vendor said beyond price, quantity and time: key and text, verbatim."""

EXCHANGE: Final = "asx"
ASSET_CLASS: Final = "equities"
SYDNEY: Final = ZoneInfo("Australia/Sydney")

OFF_MARKET: Final = (OFF_MARKET_KEY, "true")
OFF_MARKET_VENUE: Final = "X"

COLUMNS: Final = 7
_KEYS: Final = ("qualifier", "venue", "buyer_id")
_TEXT: Final = r"[ -+\--~]*"  # printable ASCII without a comma
_LINE: Final = (
    r"^(?P<date>\d{2}/\d{2}/\d{4}),(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d)\.(?P<milli>\d{3}),"
    r"(?P<whole>\d{1,10})(?:\.(?P<fraction>\d{1,8}))?,(?P<volume>\d{1,10}),"
    rf"(?P<qualifier>{_TEXT}),(?P<venue>{_TEXT}),(?P<buyer_id>{_TEXT})$"
)
"""As the vendor writes a line, with as many digits as fit an int64 when they are scaled."""
_DATE: Final = re.compile(r"(\d{2})/(\d{2})/(\d{4})", re.ASCII)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,6}))?", re.ASCII)
_PRINTABLE: Final = re.compile(_TEXT)
_SCALE: Final = 10**DECIMALS
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NOT_BY_COLUMNS: Final = -1
_SHOWN_CHARACTERS: Final = 80

_Int64s: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
_Groups: TypeAlias = Mapping[str, pa.BinaryArray]
"""What the pattern's groups matched in each line; null where the line does not match."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line's trade. Numbers are scaled by 10**8, the time is in UTC microseconds."""

    price: int
    quantity: int
    exchange_us: int
    vendor: Vendor


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that is no trade: its row, its bytes without the line's end, and why."""

    row: int
    line: bytes
    problem: RecordError


@dataclass(slots=True)
class Parsed:
    """What some lines hold: columns of equal length, in the order of the file, and the lines that are in none.

    Args:
        rows: The row of each trade in its file.
        prices: Scaled by 10**8.
        quantities: Scaled by 10**8.
        exchange_us: UTC microseconds.
        vendor: What else the vendor said.
        refused: Lines that are no trades.
    """

    rows: list[int]
    prices: list[int]
    quantities: list[int]
    exchange_us: list[int]
    vendor: list[Vendor]
    refused: list[Refused] = field(default_factory=list)


def parse(lines: Sequence[bytes], first_row: int) -> Parsed:
    """Read lines.

    Args:
        lines: Without their ends.
        first_row: The number of the first of them in its file.
    """
    if not lines:
        return Parsed([], [], [], [], [])
    matches = pc.extract_regex(pa.array(lines, pa.binary()), _LINE)
    # Flattened, as only then a line that does not match is null in each of them.
    found = dict(zip(matches.type.names, matches.flatten(), strict=True))
    times = _times(found)
    prices = _numbers(found, "whole") * _SCALE + _fractions(found)
    quantities = _numbers(found, "volume") * _SCALE
    # What the pattern does not match has zeros here; a price of 0 is refused by the reader of single lines.
    single = (times == _NOT_BY_COLUMNS) | (prices == 0) | (quantities == 0) | (prices >= PRICE_LIMIT)
    rows = list(range(first_row, first_row + len(lines)))
    parsed = Parsed(rows, prices.tolist(), quantities.tolist(), times.tolist(), _vendors(found))
    if single.any():
        _patch(parsed, lines, np.flatnonzero(single).tolist())
    return parsed


def _patch(parsed: Parsed, lines: Sequence[bytes], single: list[int]) -> None:
    """Read some lines one by one; those that are no trades leave the columns."""
    refused: set[int] = set()
    for at in single:
        try:
            row = read_line(lines[at])
        except RecordError as problem:
            parsed.refused.append(Refused(parsed.rows[at], lines[at], problem))
            refused.add(at)
            continue
        parsed.prices[at], parsed.quantities[at] = row.price, row.quantity
        parsed.exchange_us[at], parsed.vendor[at] = row.exchange_us, row.vendor
    kept = [at not in refused for at in range(len(lines))]
    parsed.rows = list(compress(parsed.rows, kept))
    parsed.prices = list(compress(parsed.prices, kept))
    parsed.quantities = list(compress(parsed.quantities, kept))
    parsed.exchange_us = list(compress(parsed.exchange_us, kept))
    parsed.vendor = list(compress(parsed.vendor, kept))


def _numbers(found: _Groups, name: str) -> _Int64s:
    """A group of digits as numbers; 0 where the line does not match."""
    text = pc.fill_null(found[name], b"0").cast(pa.string())
    numbers: _Int64s = text.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def _fractions(found: _Groups) -> _Int64s:
    text = pc.utf8_rpad(pc.fill_null(found["fraction"], b"").cast(pa.string()), DECIMALS, "0")
    numbers: _Int64s = text.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def _times(found: _Groups) -> _Int64s:
    """UTC microseconds of each line, or `_NOT_BY_COLUMNS`. A file has few dates, so each is looked at once."""
    dates = pc.fill_null(found["date"], b"").dictionary_encode()
    midnights = np.array([_midnight_us(text.decode()) for text in dates.dictionary.to_pylist()], dtype=np.int64)
    at: _Int64s = midnights[dates.indices.to_numpy()]
    seconds = (_numbers(found, "hour") * 60 + _numbers(found, "minute")) * 60 + _numbers(found, "second")
    of_day = seconds * 1_000_000 + _numbers(found, "milli") * 1_000
    return np.where(at == _NOT_BY_COLUMNS, at, at + of_day)


def _midnight_us(text: str) -> int:
    """When a day begins in Sydney, if all of it has one offset from UTC and may have trades."""
    try:
        day = datetime.combine(_date(text), datetime.min.time())
        starts, ends = day.replace(tzinfo=SYDNEY), (day + _DAY).replace(tzinfo=SYDNEY)
    except (RecordError, OverflowError):
        return _NOT_BY_COLUMNS
    if starts.utcoffset() != ends.utcoffset() or starts < EARLIEST or ends > LATEST:
        return _NOT_BY_COLUMNS
    return (starts - _EPOCH) // _MICROSECOND


def _vendors(found: _Groups) -> list[Vendor]:
    """What else each line says; the same object for the same texts, which are few."""
    known: dict[tuple[bytes | None, ...], Vendor] = {}
    vendors: list[Vendor] = []
    for texts in zip(*(found[key].to_pylist() for key in _KEYS), strict=True):
        vendor = known.get(texts)
        if vendor is None:
            vendor = known[texts] = _vendor([(text or b"").decode() for text in texts])
        vendors.append(vendor)
    return vendors


def _vendor(texts: Sequence[str]) -> Vendor:
    said = tuple((key, text) for key, text in zip(_KEYS, texts, strict=True) if text)
    return (*said, OFF_MARKET) if texts[_KEYS.index("venue")] == OFF_MARKET_VENUE else said


def read_line(line: bytes) -> Row:
    """Read one line, however it is written.

    Args:
        line: Without its end.

    Raises:
        RecordError: It is no trade; the reason is stable.
    """
    try:
        fields = line.decode("ascii").split(",")
    except UnicodeDecodeError as error:
        raise RecordError("malformed_line", f"{error}; found {_shown(line)}, expected ASCII") from error
    if len(fields) != COLUMNS:
        raise RecordError("column_count", f"found {len(fields)} columns in {_shown(line)}, expected {COLUMNS}")
    day, time, price, volume, *texts = fields
    for key, text in zip(_KEYS, texts, strict=True):
        if not _PRINTABLE.fullmatch(text):
            raise RecordError(f"{key}_malformed", f"found {key} {text[:_SHOWN_CHARACTERS]!r}, expected printable text")
    return Row(
        scaled("price", price, PRICE_LIMIT),
        scaled("quantity", volume, QUANTITY_LIMIT),
        _exchange_us(_date(day), time),
        _vendor(texts),
    )


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN_CHARACTERS])


def _date(text: str) -> date:
    match = _DATE.fullmatch(text)
    try:
        if match is not None:
            month, day, year = map(int, match.groups())
            return date(year, month, day)
    except ValueError:
        pass
    shown = text[:_SHOWN_CHARACTERS]
    raise RecordError("exchange_timestamp_malformed", f"found the date {shown!r}, expected MM/DD/YYYY")


def _exchange_us(day: date, text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        shown = text[:_SHOWN_CHARACTERS]
        raise RecordError("exchange_timestamp_malformed", f"found the time {shown!r}, expected HH:MM:SS.sss")
    hour, minute, second, fraction = match.groups(default="")
    local = datetime(
        day.year, day.month, day.day, int(hour), int(minute), int(second), int(fraction.ljust(6, "0")), tzinfo=SYDNEY
    )
    first, again = (local.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if first != again:  # the clocks are changed then (PEP 495)
        word, times = ("ambiguous", "twice") if first > again else ("nonexistent", "never")
        found = f"found {day.isoformat()} {text}, which Sydney has {times}"
        raise RecordError(f"exchange_timestamp_{word}", f"{found}, expected a time that it has once")
    if not EARLIEST <= local <= LATEST:
        expected = f"expected {EARLIEST.year} to {LATEST.year}"
        raise RecordError("exchange_timestamp_range", f"found {day.isoformat()} {text}, {expected}")
    return (local.astimezone(UTC) - _EPOCH) // _MICROSECOND
