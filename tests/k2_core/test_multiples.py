"""Which numbers are no multiple of a step: at the edges of a column, and of whom nothing is known.

What hypothesis finds is in tests/property/test_multiples.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pytest

from k2_core.multiples import off_step
from k2_core.records import TRADES
from k2_core.reference import Listing
from k2_core.types import Symbol

BTC = Listing("binance", "spot", Symbol("BTCUSDT"))
Row = tuple[str, str, str, str]


def trades(rows: Sequence[Row], column: str = "quantity") -> pa.Table:
    """Return rows of exchange, market, symbol and a number."""
    exchange, market, symbol, numbers = (list(values) for values in zip(*rows, strict=True)) if rows else ([],) * 4
    kind = TRADES.table_schema.field(column).type
    return pa.table(
        {
            "exchange": pa.array(exchange, pa.string()),
            "market": pa.array(market, pa.string()),
            "symbol": pa.array(symbol, pa.string()),
            column: pa.array([Decimal(number) for number in numbers], kind),
        }
    )


@pytest.mark.parametrize(
    ("number", "step", "off"),
    [
        ("0.01", "0.01", False),
        ("0.3", "0.1", False),  # as floats there is a rest
        ("0.30000001", "0.1", True),
        ("0.005", "0.01", True),
        ("0.00000001", "0.00000001", False),
        ("100", "0.00000001", False),
        ("7", "3", True),
        ("9", "3", False),
        ("2.5", "0.5", False),
        ("184467440737.09551615", "0.00000003", False),  # 2**64 - 1, which 3 divides
        ("184467440737.09551616", "0.00000003", True),  # 2**64
        ("184467440737.09551616", "0.00000002", False),
        ("184467440737.09551617", "0.00000002", True),
        ("1", "184467440737.09551616", True),
        ("368934881474.19103232", "184467440737.09551616", False),
        ("368934881474.19103233", "184467440737.09551616", True),
        ("99999999999999999999.99999999", "0.00000001", False),
        ("99999999999999999999.99999999", "0.00000002", True),
        ("99999999999999999999.99999999", "99999999999999999999.99999999", False),
        ("99999999999999999999.99999998", "99999999999999999999.99999999", True),
        ("0.00000001", "99999999999999999999.99999999", True),
    ],
)
def test_a_rest_is_found_exactly(number: str, step: str, *, off: bool) -> None:
    assert off_step(trades([(*BTC, number)]), "quantity", {BTC: Decimal(step)}).to_pylist() == [off]


def test_prices_up_to_the_largest() -> None:
    rows = trades([(*BTC, text) for text in ("9999999999.99999999", "0.00000001", "9999999999.99999998")], "price")
    assert off_step(rows, "price", {BTC: Decimal("9999999999.99999999")}).to_pylist() == [False, True, True]


def test_each_symbol_has_its_own_step_and_others_none() -> None:
    eth, other = Listing("binance", "spot", Symbol("ETHUSDT")), Listing("kraken", "spot", Symbol("ETHUSDT"))
    rows: list[tuple[Row, bool]] = [
        (("binance", "spot", "BTCUSDT", "0.5"), True),
        (("binance", "spot", "ETHUSDT", "0.5"), False),
        (("kraken", "spot", "ETHUSDT", "0.5"), True),
        (("kraken", "spot", "BTCUSDT", "0.5"), False),
        (("binance", "futures", "BTCUSDT", "0.5"), False),
        (("binance", "spot", "BNBUSDT", "0.5"), False),
        (("binance", "spot", "ETHUSDT", "0.25"), True),
        (("binance", "spot", "BTCUSDT", "184467440737.09551616"), True),
        (("binance", "spot", "BTCUSDT", "3"), False),
    ]
    sizes = {BTC: Decimal(1), eth: Decimal("0.5"), other: Decimal(1)}
    table = trades([row for row, _ in rows])
    assert off_step(table, "quantity", sizes).to_pylist() == [off for _, off in rows]
    # The same in chunks, of which one is a part of another array.
    chunks = pa.concat_tables([table.slice(0, 2), table.slice(2, 0), table.slice(2, 5), table.slice(7)])
    assert off_step(chunks, "quantity", sizes).to_pylist() == [off for _, off in rows]


def test_without_trades_or_steps_nothing_is_off() -> None:
    assert off_step(trades([]), "quantity", {BTC: Decimal(1)}).to_pylist() == []
    assert off_step(trades([(*BTC, "0.5")]), "quantity", {}).to_pylist() == [False]
    unknown = {Listing("binance", "spot", Symbol("ETHUSDT")): Decimal(1)}
    assert off_step(trades([(*BTC, "0.5")]), "quantity", unknown).to_pylist() == [False]
