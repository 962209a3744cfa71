"""What Avro cannot say about a record, column by column, at the edges of each range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pytest

from k2_core.checks import EARLIEST, LATEST, find_invalid
from k2_core.records import QUOTES, TRADES
from support.records import Record, arrow_rows, make_quotes, make_trades

TRADE: Final = make_trades(1)[0]
QUOTE: Final = make_quotes(1, seed=3)[0]
TICK: Final = timedelta(microseconds=1)
SMALLEST: Final = Decimal("1e-8")


def problem(record: Record, **changes: Any) -> tuple[str, str] | None:
    """What is said of one changed record between two good ones."""
    record_type = TRADES if "trade_id" in record else QUOTES
    found = find_invalid(arrow_rows([record, record | changes, record], record_type))
    assert found.keys() <= {1}
    return found.get(1)


def test_no_rows_have_no_problem() -> None:
    assert find_invalid(TRADES.wire_schema.empty_table()) == {}


def test_good_rows_have_no_problem() -> None:
    assert find_invalid(arrow_rows(make_trades(1_000))) == {}
    assert find_invalid(arrow_rows(make_quotes(1_000), QUOTES)) == {}


@pytest.mark.parametrize("column", ["price", "quantity"])
class TestNumbers:
    @pytest.mark.parametrize("value", [Decimal(0), -SMALLEST, Decimal(-5)], ids=["zero", "just-below", "far-below"])
    def test_not_positive(self, column: str, value: Decimal) -> None:
        found = problem(TRADE, **{column: value})
        assert found is not None
        assert found[0] == f"{column}_not_positive"
        assert f"found {column} {value:f}" in found[1]

    def test_the_smallest_is_fine(self, column: str) -> None:
        assert problem(TRADE, **{column: SMALLEST}) is None

    def test_the_largest_is_fine(self, column: str) -> None:
        digits = {"price": 10, "quantity": 20}[column]
        assert problem(TRADE, **{column: Decimal(10) ** digits - SMALLEST}) is None


class TestPrecision:
    """A decimal on the wire may hold more digits than its precision allows: Arrow keeps them, Parquet must not."""

    @pytest.mark.parametrize(("column", "digits"), [("price", 10), ("quantity", 20)], ids=["price", "quantity"])
    def test_more_digits_than_the_column_has(self, column: str, digits: int) -> None:
        rows = arrow_rows([TRADE])
        kind = rows.schema.field(column).type
        too_big = (10**digits) * 10**8
        buffer = pa.py_buffer(too_big.to_bytes(16, "little"))
        array = pa.Array.from_buffers(kind, 1, [None, buffer])
        wrong = rows.set_column(rows.schema.get_field_index(column), rows.schema.field(column), array)
        assert find_invalid(wrong) == {
            0: (
                f"{column}_precision",
                f"found {column} {10**digits}.00000000, expected more than 0 and less than 1" + "0" * digits,
            )
        }


class TestQuotes:
    @pytest.mark.parametrize("column", ["bid_price", "bid_quantity", "ask_price", "ask_quantity"])
    def test_an_absent_side_is_null_and_never_zero(self, column: str) -> None:
        assert problem(QUOTE, **{column: None}) is None
        found = problem(QUOTE, **{column: Decimal(0)})
        assert found is not None
        assert found[0] == f"{column}_not_positive"

    def test_all_sides_absent(self) -> None:
        columns = dict.fromkeys(["bid_price", "bid_quantity", "ask_price", "ask_quantity"])
        assert find_invalid(arrow_rows([QUOTE | columns] * 3, QUOTES)) == {}


@pytest.mark.parametrize("column", ["exchange_timestamp", "receive_timestamp"])
class TestTimes:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(EARLIEST - TICK, id="before-the-first-tick-archives"),
            pytest.param(LATEST + TICK, id="after-the-last"),
            pytest.param(datetime(1970, 1, 21, tzinfo=UTC), id="milliseconds-taken-for-microseconds"),
            pytest.param(datetime(9999, 1, 1, tzinfo=UTC), id="far"),
        ],
    )
    def test_outside(self, column: str, value: datetime) -> None:
        found = problem(TRADE, **{column: value})
        assert found is not None
        assert found[0] == f"{column}_range"
        assert found[1].endswith("us since 1970, expected 1990 to 2100")

    @pytest.mark.parametrize("value", [EARLIEST, LATEST], ids=["first", "last"])
    def test_the_limits_are_inside(self, column: str, value: datetime) -> None:
        assert problem(TRADE, **{column: value}) is None


class TestOthers:
    def test_no_exchange_time_is_fine(self) -> None:
        assert problem(TRADE, exchange_timestamp=None) is None

    @pytest.mark.parametrize("column", ["message_id", "symbol"])
    def test_empty_text(self, column: str) -> None:
        assert problem(TRADE, **{column: ""}) == (f"{column}_empty", f"found an empty {column}, expected text")

    @pytest.mark.parametrize("side", ["buy", "sell", None], ids=str)
    def test_known_sides(self, side: str | None) -> None:
        assert problem(TRADE, side=side) is None

    @pytest.mark.parametrize("side", ["", "BUY", "b"], ids=["empty", "upper", "short"])
    def test_unknown_sides(self, side: str) -> None:
        assert problem(TRADE, side=side) == ("side_unknown", f"found side {side!r}, expected buy, sell or null")

    @pytest.mark.parametrize("sequence", [0, 2**63 - 2, None], ids=str)
    def test_sequences(self, sequence: int | None) -> None:
        assert problem(TRADE, sequence=sequence) is None

    @pytest.mark.parametrize("sequence", [-1, 2**63 - 1, -(2**63)], ids=str)
    def test_sequences_that_no_interval_holds(self, sequence: int) -> None:
        found = problem(TRADE, sequence=sequence)
        assert found is not None
        assert found[0] == "sequence_range"

    def test_columns_that_are_missing_are_not_checked(self) -> None:
        assert find_invalid(pa.table({"something": [1, 2]})) == {}


def test_the_first_problem_of_a_row_is_named() -> None:
    found = problem(TRADE, price=Decimal(0), side="up", symbol="")
    assert found is not None
    assert found[0] == "price_not_positive"


def test_each_row_has_its_own() -> None:
    records = [TRADE, TRADE | {"side": "up"}, TRADE | {"price": Decimal(-1)}, TRADE, TRADE | {"symbol": ""}]
    found = find_invalid(arrow_rows(records))
    assert {row: reason for row, (reason, _) in sorted(found.items())} == {
        1: "side_unknown",
        2: "price_not_positive",
        4: "symbol_empty",
    }


def test_rows_in_several_chunks() -> None:
    good, bad = arrow_rows([TRADE] * 10), arrow_rows([TRADE, TRADE | {"side": "up"}])
    assert find_invalid(pa.concat_tables([good, bad, good, bad])).keys() == {11, 23}
