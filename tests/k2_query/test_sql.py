from __future__ import annotations

import pytest

from k2_query import sql
from k2_query.ordering import SORT_KEYS, Order


def test_only_columns_of_trades_are_identifiers() -> None:
    assert sql.identifiers(["symbol", "price"]) == "symbol, price"
    with pytest.raises(ValueError, match=r"found the columns \['1; DROP'\]"):
        sql.identifiers(["symbol", "1; DROP"])


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (sql.window_rows(["symbol"], Order.ASC), 5),
        (sql.window_rows(["symbol"], Order.DESC), 5),
        (sql.known_ids(with_sequence=False), 4),
        (sql.known_ids(with_sequence=True), 6),
        (sql.daily(files=True, log=True), len(sql.daily_parameters(["files", "symbol", "start", "end"], log=True))),
        (sql.daily(files=True, log=False), len(sql.daily_parameters(["files", "symbol", "start", "end"], log=False))),
        (sql.daily(files=False, log=True), len(sql.daily_parameters(None, log=True))),
        (sql.symbols(), 1),
    ],
    ids=["asc", "desc", "ids", "ids-by-sequence", "daily", "daily-of-files", "daily-of-log", "symbols"],
)
def test_every_value_is_a_parameter(text: str, parameters: int) -> None:
    assert text.count("?") == parameters
    assert "'" not in text
    assert ";" not in text


def test_opening_and_closing_prices_follow_the_order_of_trades() -> None:
    assert sql.daily(files=True, log=False).count(f"({', '.join(SORT_KEYS)})") == 2
