"""Prices and quantities off their step, against Python's Decimal on each number alone."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_core.multiples import off_step
from k2_core.records import TRADES
from k2_core.reference import Listing
from k2_core.types import Symbol

pytestmark = pytest.mark.timeout(120)

LISTINGS: Final = [
    Listing(exchange, market, Symbol(symbol))
    for exchange in ("binance", "kraken")
    for market in ("spot", "futures")
    for symbol in ("A", "B")
]
Trade = tuple[Listing, Decimal]


def numbers(digits: int) -> st.SearchStrategy[int]:
    """Unscaled numbers above zero: any, near what 64 bits hold, and round ones as markets have them."""
    most = 10**digits - 1
    near = st.builds(lambda power, by: 2**power + by, st.sampled_from([63, 64, 65]), st.integers(-3, 3))
    round_ones = st.builds(lambda head, zeros: head * 10**zeros, st.integers(1, 999), st.integers(0, digits - 3))
    return st.one_of(st.integers(1, most), near, round_ones).map(lambda number: min(number, most))


@st.composite
def looks(draw: st.DrawFn, digits: int) -> tuple[list[Trade], Mapping[Listing, Decimal]]:
    """Trades, of which about half are multiples of a step, and the steps of some symbols."""
    unscaled = draw(st.dictionaries(st.sampled_from(LISTINGS), numbers(digits), max_size=len(LISTINGS)))
    trades: list[Trade] = []
    for at in draw(st.lists(st.sampled_from(LISTINGS), max_size=30)):
        number = draw(numbers(digits))
        step = unscaled.get(at, 1)
        if number >= step and draw(st.booleans()):
            number -= number % step
        trades.append((at, Decimal(number).scaleb(-8)))
    return trades, {at: Decimal(step).scaleb(-8) for at, step in unscaled.items()}


def rows_of(trades: list[Trade], column: str, cuts: list[int]) -> pa.Table:
    """Return trades as a table in chunks that begin at the cuts."""
    kind = TRADES.table_schema.field(column).type
    names = {
        key: pa.array([getattr(at, key) for at, _ in trades], pa.string()) for key in ("exchange", "market", "symbol")
    }
    whole = pa.table({**names, column: pa.array([number for _, number in trades], kind)})
    edges = [0, *sorted(cut % (len(trades) + 1) for cut in cuts), len(trades)]
    return pa.concat_tables([whole.slice(start, end - start) for start, end in pairwise(edges)])


def is_off(number: Decimal, step: Decimal | None) -> bool:
    with localcontext(prec=60):
        return step is not None and number % step != 0


@pytest.mark.parametrize(("column", "digits"), [("price", 18), ("quantity", 28)])
@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_it_is_what_decimal_says(column: str, digits: int, data: st.DataObject) -> None:
    trades, sizes = data.draw(looks(digits))
    rows = rows_of(trades, column, data.draw(st.lists(st.integers(0, 30), max_size=3)))
    expected = [is_off(number, sizes.get(at)) for at, number in trades]
    assert off_step(rows, column, sizes).to_pylist() == expected
