from __future__ import annotations

import pytest

from k2_query import trino_sql
from k2_query.ordering import SORT_KEYS, Order
from k2_query.trino_sql import Source

SOURCE = Source("lake", "market", "trades", 3447572670586531495)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (trino_sql.window_rows(SOURCE, ["symbol"], Order.ASC), 4),
        (trino_sql.window_rows(SOURCE, ["symbol"], Order.DESC), 4),
        (trino_sql.known_ids(SOURCE, with_sequence=False), 4),
        (trino_sql.known_ids(SOURCE, with_sequence=True), 6),
        (trino_sql.daily(SOURCE), 3 + len(trino_sql.OFF_MARKET)),
        (trino_sql.any_row(SOURCE, ["symbol"]), 0),
        (trino_sql.symbols(SOURCE, 0), 0),
        (trino_sql.symbols(SOURCE, 3), 3),
    ],
    ids=["asc", "desc", "ids", "ids-by-sequence", "daily", "any row", "symbols", "symbols-of-files"],
)
def test_every_value_is_a_parameter_but_the_snapshot_s_number(text: str, parameters: int) -> None:
    assert text.count("?") == parameters
    assert text.count("'") == 2
    assert '"lake"."market"."trades" FOR VERSION AS OF BIGINT \'3447572670586531495\'' in text
    assert ";" not in text


def test_names_are_quoted() -> None:
    assert Source('a"b', "c.d", "e", 1).text == '"a""b"."c.d"."e" FOR VERSION AS OF BIGINT \'1\''


def test_only_a_number_is_a_version() -> None:
    with pytest.raises(ValueError, match="format code"):
        _ = Source("a", "b", "c", "1' OR 1 = 1").text  # type: ignore[arg-type]


def test_only_columns_of_trades_are_identifiers() -> None:
    with pytest.raises(ValueError, match="expected some of"):
        trino_sql.window_rows(SOURCE, ["symbol", "1; DROP"], Order.ASC)


def test_places_follow_the_order_of_trades() -> None:
    text = trino_sql.daily(SOURCE)
    at = [text.index(key) for key in SORT_KEYS]
    assert at == sorted(at)
