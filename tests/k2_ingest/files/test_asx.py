"""The vendor's lines, good and bad, by columns and one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import RecordError
from k2_ingest.files.asx import Parsed, Row, parse, read_line
from support.asx import line, read
from support.captures import capture_files

GOOD = b"03/10/2014,10:09:08.765,36.667,204,0,,"


def micros(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


def rows_of(parsed: Parsed) -> list[Row]:
    columns = (parsed.prices, parsed.quantities, parsed.exchange_us, parsed.vendor)
    return [Row(*row) for row in zip(*columns, strict=True)]


def both(text: bytes) -> Row:
    """A line's trade, which both readers agree on."""
    [by_columns] = rows_of(parse([text], 1))
    assert by_columns == read_line(text)
    return by_columns


def reason(text: bytes) -> str:
    parsed = parse([GOOD, text, GOOD], 7)
    assert parsed.rows == [7, 9]
    assert rows_of(parsed) == [read_line(GOOD)] * 2
    [refused] = parsed.refused
    assert (refused.row, refused.line) == (8, text)
    return refused.problem.reason


def test_a_trade_in_full() -> None:
    at = micros(2014, 3, 9, 23, 9, 8) + 765_000
    assert both(GOOD) == Row(3_666_700_000, 20_400_000_000, at, (("qualifier", "0"),))


def test_nothing_is_nothing() -> None:
    assert parse([], 1) == Parsed([], [], [], [], [])


@pytest.mark.parametrize(
    ("end", "vendor"),
    [
        (b"3,X,", (("qualifier", "3"), ("venue", "X"), ("off_market", "true"))),
        (b"25,,35.77", (("qualifier", "25"), ("buyer_id", "35.77"))),
        (b",,", ()),
        (b"0,Y,AB C", (("qualifier", "0"), ("venue", "Y"), ("buyer_id", "AB C"))),
    ],
    ids=["off-market", "a buyer that is a price", "nothing", "all of it"],
)
def test_what_else_the_vendor_says(end: bytes, vendor: tuple[tuple[str, str], ...]) -> None:
    assert both(GOOD.replace(b"0,,", end)).vendor == vendor


@pytest.mark.parametrize(
    ("price", "scaled"),
    [
        (b"0.67", 67_000_000),
        (b"36", 3_600_000_000),
        (b"0.00000001", 1),
        (b"9999999999.99999999", 10**18 - 1),
        (b"1.500000000", 150_000_000),
        (b".5", 50_000_000),
        (b"1.", 100_000_000),
        (b"00000000001", 100_000_000),
    ],
)
def test_prices_are_exact(price: bytes, scaled: int) -> None:
    assert both(GOOD.replace(b"36.667", price)).price == scaled


@pytest.mark.parametrize(
    ("volume", "scaled"),
    [
        (b"1", 10**8),
        (b"9999999999", 9_999_999_999 * 10**8),
        (b"99999999999999999999", (10**20 - 1) * 10**8),
        (b"0.5", 50_000_000),
    ],
)
def test_quantities_are_exact(volume: bytes, scaled: int) -> None:
    assert both(GOOD.replace(b",204,", b"," + volume + b",")).quantity == scaled


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        (b"07/01/2014,10:00:00.000", micros(2014, 7, 1)),
        (b"01/02/2014,10:00:00.000", micros(2014, 1, 1, 23)),
        (b"04/05/2014,23:59:59.000", micros(2014, 4, 5, 12, 59, 59)),
        (b"04/06/2014,01:59:59.000", micros(2014, 4, 5, 14, 59, 59)),
        (b"04/06/2014,03:00:00.000", micros(2014, 4, 5, 17)),
        (b"10/05/2014,01:59:59.000", micros(2014, 10, 4, 15, 59, 59)),
        (b"10/05/2014,03:00:00.000", micros(2014, 10, 4, 16)),
        (b"07/01/2014,10:00:00", micros(2014, 7, 1)),
        (b"07/01/2014,10:00:00.000001", micros(2014, 7, 1) + 1),
    ],
    ids=[
        "winter",
        "summer",
        "last of summer",
        "day of the change",
        "after it",
        "day of the other change",
        "after that",
        "no fraction",
        "microseconds",
    ],
)
def test_times_are_sydneys(local: bytes, utc: int) -> None:
    assert both(GOOD.replace(b"03/10/2014,10:09:08.765", local)).exchange_us == utc


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "column_count"),
        (b"03/10/2014,10:09:08.765,36.667,204,0,", "column_count"),
        (GOOD + b",", "column_count"),
        (b"Date,Time,Price,Volume,Qualifier,Venue,BuyerID", "price_malformed"),
        (GOOD.replace(b"03/10", b"13/10"), "exchange_timestamp_malformed"),
        (GOOD.replace(b"03/10", b"02/30"), "exchange_timestamp_malformed"),
        (GOOD.replace(b"03/10/2014", b"2014-03-10"), "exchange_timestamp_malformed"),
        (GOOD.replace(b"10:09", b"24:09"), "exchange_timestamp_malformed"),
        (GOOD.replace(b"08.765", b"60.765"), "exchange_timestamp_malformed"),
        (GOOD.replace(b"03/10/2014,10:09", b"04/06/2014,02:09"), "exchange_timestamp_ambiguous"),
        (GOOD.replace(b"03/10/2014,10:09", b"10/05/2014,02:09"), "exchange_timestamp_nonexistent"),
        (GOOD.replace(b"2014", b"1989"), "exchange_timestamp_range"),
        (GOOD.replace(b"2014", b"2100"), "exchange_timestamp_range"),
        (GOOD.replace(b"03/10/2014", b"12/31/9999"), "exchange_timestamp_range"),
        (GOOD.replace(b"36.667", b"-36.667"), "price_not_positive"),
        (GOOD.replace(b"36.667", b"0.000"), "price_not_positive"),
        (GOOD.replace(b"36.667", b"NaN"), "price_malformed"),
        (GOOD.replace(b"36.667", b""), "price_malformed"),
        (GOOD.replace(b"36.667", b"36.666666666"), "price_precision"),
        (GOOD.replace(b"36.667", b"10000000000"), "price_precision"),
        (GOOD.replace(b",204,", b",0,"), "quantity_not_positive"),
        (GOOD.replace(b",204,", b",1e3,"), "quantity_malformed"),
        (GOOD.replace(b",204,", b",100000000000000000000,"), "quantity_precision"),
        (GOOD + b"\xff", "malformed_line"),
        (GOOD + b"\r", "buyer_id_malformed"),
        (GOOD.replace(b"0,,", b"\t,,"), "qualifier_malformed"),
    ],
)
def test_what_is_no_trade_is_refused_with_its_row(text: bytes, why: str) -> None:
    assert reason(text) == why


@given(st.lists(st.binary(max_size=60) | st.builds(line, st.integers(1, 10**6)), min_size=1, max_size=20))
def test_no_line_is_lost_and_none_changes_another(lines: list[bytes]) -> None:
    parsed = parse(lines, 1)
    assert sorted([*parsed.rows, *(refused.row for refused in parsed.refused)]) == list(range(1, len(lines) + 1))
    assert rows_of(parsed) == [read_line(lines[row - 1]) for row in parsed.rows]
    for refused in parsed.refused:
        with pytest.raises(RecordError, match=f"^{refused.problem.reason}: "):
            read_line(refused.line)


@pytest.mark.captures
@pytest.mark.parametrize(("name", "count"), [("7078.csv", 91_631), ("7181.csv", 232)])
def test_real_files_are_as_another_reader_reads_them(name: str, count: int) -> None:
    [path] = capture_files("asx/trades", name)
    parsed = parse(path.read_bytes().split(b"\r\n")[:-1], 1)
    assert (parsed.refused, parsed.rows) == ([], list(range(1, count + 1)))
    for row, (_, price, volume, at, qualifier, venue, buyer) in zip(rows_of(parsed), read(path, "A"), strict=True):
        assert (Decimal(row.price).scaleb(-8), Decimal(row.quantity).scaleb(-8)) == (price, volume)
        assert row.exchange_us == int(at.timestamp()) * 1_000_000 + at.microsecond
        said = {"qualifier": qualifier, "venue": venue, "buyer_id": buyer, "off_market": "true" if venue == "X" else ""}
        assert dict(row.vendor) == {key: text for key, text in said.items() if text}
