"""The batch decoder on valid batches whose bytes were damaged: it may refuse, and must not invent or shift.

The oracle reads each value alone: fastavro, or where fastavro refuses a branch of a union that does not exist, a reader
of a few lines below that takes it for the second branch as the block reader does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_core.codec import PREFIX_BYTES, BatchDecoder, DecodedBatch
from k2_core.records import QUOTES, TRADES, RecordType
from k2_core.schemas import PackagedSchemas
from support.records import Record, encode, make_quotes, make_trades, plain_rows

pytestmark = pytest.mark.timeout(120)

TRADE_POOL: Final = make_trades(60, seed=11)
TRADE_VALUES: Final = [encode(trade) for trade in TRADE_POOL]
QUOTE_POOL: Final = make_quotes(60, seed=12)
QUOTE_VALUES: Final = [encode(quote, QUOTES) for quote in QUOTE_POOL]
PARSED: Final[dict[str, Any]] = {kind.name: fastavro.parse_schema(dict(kind.avro)) for kind in (TRADES, QUOTES)}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Damage: TypeAlias = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Flip:
    at: int
    bits: int

    def __call__(self, value: bytes) -> bytes:
        at = self.at % len(value)
        return value[:at] + bytes([value[at] ^ self.bits]) + value[at + 1 :]


@dataclass(frozen=True)
class Truncate:
    at: int

    def __call__(self, value: bytes) -> bytes:
        return value[: self.at % len(value)]


@dataclass(frozen=True)
class Insert:
    at: int
    more: bytes

    def __call__(self, value: bytes) -> bytes:
        at = self.at % (len(value) + 1)
        return value[:at] + self.more + value[at:]


@dataclass(frozen=True)
class Cut:
    at: int
    count: int

    def __call__(self, value: bytes) -> bytes:
        at = self.at % len(value)
        return value[:at] + value[at + self.count :]


@dataclass(frozen=True)
class Twice:
    """Two records in one value; `skip` 0 repeats the prefix, 5 joins the bare bodies."""

    skip: int

    def __call__(self, value: bytes) -> bytes:
        return value + value[self.skip :]


@dataclass(frozen=True)
class Replace:
    value: bytes | None

    def __call__(self, _: bytes) -> bytes | None:
        return self.value


POSITIONS: Final = st.integers(0, 200)
DAMAGE: Final[st.SearchStrategy[Damage]] = st.one_of(
    st.builds(Flip, POSITIONS, st.integers(1, 255)),
    st.builds(Truncate, POSITIONS),
    st.builds(Insert, POSITIONS, st.binary(min_size=1, max_size=12)),
    st.builds(Cut, POSITIONS, st.integers(1, 20)),
    st.builds(Twice, st.sampled_from([0, PREFIX_BYTES])),
    st.builds(Replace, st.one_of(st.none(), st.just(b""), st.binary(max_size=80))),
)


def decoder(record_type: RecordType) -> BatchDecoder:
    return BatchDecoder(record_type, PackagedSchemas().by_id)


def oracle(value: bytes | None, record_type: RecordType) -> Record | None:
    """Return the record that is exactly this value, or None."""
    if value is None or value[:PREFIX_BYTES] != TRADE_VALUES[0][:PREFIX_BYTES]:
        return None
    body = io.BytesIO(value[PREFIX_BYTES:])
    try:
        record: Any = fastavro.schemaless_reader(body, PARSED[record_type.name], None)
    except IndexError:  # a branch that the union has not
        record = lenient(body, record_type)
    except (ValueError, EOFError, OverflowError, ArithmeticError):
        return None
    return record if not body.read(1) else None


def lenient(body: io.BytesIO, record_type: RecordType) -> Record:
    """Read a record like fastavro, but any branch of a union other than the first is the second."""
    body.seek(0)
    return {field["name"]: _read(body, field["type"]) for field in record_type.avro["fields"]}


def _read(body: io.BytesIO, kind: Any) -> Any:
    if isinstance(kind, list):
        return None if _long(body) == 0 else _read(body, kind[1])
    logical = kind.get("logicalType", kind["type"]) if isinstance(kind, Mapping) else kind
    match logical:
        case "long":
            return _long(body)
        case "timestamp-micros":
            return EPOCH + timedelta(microseconds=_long(body))
        case "decimal":
            return Decimal(int.from_bytes(body.read(_long(body)), "big", signed=True)).scaleb(-kind["scale"])
        case "map":
            return dict(_entries(body))
    return body.read(_long(body)).decode()


def _entries(body: io.BytesIO) -> list[tuple[str, str]]:
    entries: list[tuple[str, str]] = []
    while count := _long(body):
        if count < 0:
            _long(body)  # the block's size in bytes
        entries += [(_read(body, "string"), _read(body, "string")) for _ in range(abs(count))]
    return entries


def _long(body: io.BytesIO) -> int:
    number = shift = 0
    while (byte := body.read(1)[0]) & 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
    number |= byte << shift
    return number >> 1 ^ -(number & 1)


def check(
    decoded: DecodedBatch, values: list[bytes | None], originals: Mapping[int, Record], record_type: RecordType
) -> None:
    """Untouched values are as they went in; whatever else came out is what its bytes say."""
    indexes = decoded.indexes.tolist()
    bad = [rejected.index for rejected in decoded.rejected]
    assert bad == sorted(set(bad))
    assert sorted(indexes + bad) == list(range(len(values)))
    assert indexes == sorted(indexes)
    rows = dict(zip(indexes, plain_rows(decoded.rows), strict=True))
    for at, value in enumerate(values):
        if at in originals:
            assert rows.get(at) == originals[at]
        elif at in rows:
            assert rows[at] == oracle(value, record_type)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 59), min_size=1, max_size=50), st.dictionaries(st.integers(0, 49), DAMAGE, max_size=6))
def test_damage_costs_nobody_but_the_damaged(picks: list[int], damage: dict[int, Damage]) -> None:
    touched = {at: change for at, change in damage.items() if at < len(picks)}
    values = [touched[at](TRADE_VALUES[pick]) if at in touched else TRADE_VALUES[pick] for at, pick in enumerate(picks)]
    originals = {at: TRADE_POOL[pick] for at, pick in enumerate(picks) if at not in touched}
    check(decoder(TRADES).decode(values), values, originals, TRADES)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 59), st.lists(DAMAGE, min_size=1, max_size=3))
def test_the_verdict_on_a_value_does_not_hang_on_its_neighbours(pick: int, damage: list[Damage]) -> None:
    value: bytes | None = TRADE_VALUES[pick]
    for change in damage:
        value = change(value) if value else value
    alone = decoder(TRADES).decode([value])
    among = decoder(TRADES).decode([TRADE_VALUES[0], value, b"\xff", value, TRADE_VALUES[1]])
    assert [bad.reason for bad in among.rejected if bad.index != 2] == [bad.reason for bad in alone.rejected] * 2
    assert plain_rows(among.rows)[1:-1] == plain_rows(alone.rows) * 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 59), min_size=1, max_size=20), st.dictionaries(st.integers(0, 19), DAMAGE, max_size=3))
def test_quotes_too(picks: list[int], damage: dict[int, Damage]) -> None:
    touched = {at: change for at, change in damage.items() if at < len(picks)}
    values = [touched[at](QUOTE_VALUES[pick]) if at in touched else QUOTE_VALUES[pick] for at, pick in enumerate(picks)]
    originals = {at: QUOTE_POOL[pick] for at, pick in enumerate(picks) if at not in touched}
    decoded = decoder(QUOTES).decode(values)
    rows = dict(zip(decoded.indexes.tolist(), plain_rows(decoded.rows), strict=True))
    assert {at: rows.get(at) for at in originals} == originals


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=60)), max_size=40))
def test_garbage_alone_is_refused_whole(values: list[bytes | None]) -> None:
    decoded = decoder(TRADES).decode(values)
    assert (decoded.rows.num_rows, [bad.index for bad in decoded.rejected]) == (0, list(range(len(values))))


@pytest.mark.parametrize("pick", range(5))
def test_the_lenient_reader_agrees_with_fastavro(pick: int) -> None:
    assert lenient(io.BytesIO(TRADE_VALUES[pick][PREFIX_BYTES:]), TRADES) == TRADE_POOL[pick]
    assert lenient(io.BytesIO(QUOTE_VALUES[pick][PREFIX_BYTES:]), QUOTES) == QUOTE_POOL[pick]
