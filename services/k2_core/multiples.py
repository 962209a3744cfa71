"""Which trades have a price or a quantity that is no multiple of their symbol's step, by columns and exactly.

Called by `k2_core.quality`. Pure; no number becomes a float, and nothing is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.records import TRADES
from k2_core.reference import Listing


def off_step(trades: pa.Table, column: str, sizes: Mapping[Listing, Decimal]) -> pa.Array:
    """Return which trades have a number that is no multiple of their symbol's step; false where that is not known.

    Args:
        trades: With exchange, market, symbol and the column.
        column: `price` or `quantity`: numbers above zero.
        sizes: Above zero, of the column's precision.
    """
    off = np.zeros(trades.num_rows, dtype=np.bool_)
    for exchange, market, symbols, steps in _by_market(sizes, TRADES.table_schema.field(column).type):
        there = pc.and_(pc.equal(trades.column("exchange"), exchange), pc.equal(trades.column("market"), market))
        places = pc.index_in(trades.column("symbol"), value_set=symbols)
        known = pc.and_(there, pc.is_valid(places))
        numbers, theirs = trades.column(column).filter(known), steps.take(places.filter(known).combine_chunks())
        off[known.to_numpy()] = _is_no_multiple(numbers.combine_chunks(), theirs)
    return pa.array(off)


def _by_market(
    sizes: Mapping[Listing, Decimal], kind: pa.DataType
) -> Iterator[tuple[str, str, pa.Array, pa.Decimal128Array]]:
    markets: dict[tuple[str, str], dict[str, Decimal]] = {}
    for at, size in sizes.items():
        markets.setdefault((at.exchange, at.market), {})[at.symbol] = size
    for (exchange, market), steps in markets.items():
        yield exchange, market, pa.array(list(steps), pa.string()), pa.array(list(steps.values()), kind)


def _is_no_multiple(numbers: pa.Decimal128Array, steps: pa.Decimal128Array) -> npt.NDArray[np.bool_]:
    """Return whether each number leaves a rest: both of one scale, so that it is that of the unscaled integers."""
    number, step = _words(numbers), _words(steps)
    wide = (number[:, 1] | step[:, 1]) != 0
    off = np.empty(len(wide), dtype=np.bool_)
    off[~wide] = number[~wide, 0] % step[~wide, 0] != 0
    if wide.any():  # at a scale of 8 from 184 billion on: many times slower, and hardly ever a number of the market
        off[wide] = _is_no_multiple_of_wide(numbers.filter(pa.array(wide)), steps.filter(pa.array(wide)))
    return off


def _words(numbers: pa.Decimal128Array) -> npt.NDArray[np.uint64]:
    """Return the unscaled integers' low and high 64 bits, without a copy."""
    words = np.frombuffer(numbers.buffers()[1], dtype="<u8").reshape(-1, 2)
    return words[numbers.offset : numbers.offset + len(numbers)]


def _is_no_multiple_of_wide(numbers: pa.Decimal128Array, steps: pa.Decimal128Array) -> npt.NDArray[np.bool_]:
    """The same by decimals of 256 bits, in which the whole quotient of any two has room."""
    kind = pa.decimal256(numbers.type.precision, numbers.type.scale)
    number, step = numbers.cast(kind), steps.cast(kind)
    whole = pc.trunc(pc.divide(number, step)).cast(pa.decimal256(kind.precision, 0))
    off: npt.NDArray[np.bool_] = pc.not_equal(pc.multiply(whole, step), number).to_numpy(zero_copy_only=False)
    return off
