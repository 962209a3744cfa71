"""What stands out in trades, against the same rules written out row by row; and how far a table was looked at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2_core.errors import StateError
from k2_core.quality import CHECKED_KEY, COLUMNS, FINDINGS, QUALITY, Check, Checked, columns, findings
from k2_core.records import UTC_MICROSECONDS
from k2_core.reference import Listing, References, Steps
from k2_core.types import Symbol
from support.lake import table_form
from support.records import Record, make_trades, plain_rows

LISTED = {"BTCUSDT", "ETHUSDT"}
BTC, ETH = (Listing("binance", "spot", Symbol(name)) for name in ("BTCUSDT", "ETHUSDT"))
KNOWN: References = {BTC: Steps(Decimal("0.01"), Decimal("0.5")), ETH: Steps(step_size=Decimal(2))}


def strange_trades(count: int, seed: int) -> list[Record]:
    """Return trades of which some stand out, some in several ways."""
    chance = random.Random(seed)
    trades = make_trades(count, seed=seed)
    for trade in trades:
        delay = timedelta(microseconds=chance.choice([-1_270_000, -1_001, -1_000, 0, 250]))
        traded = chance.choice([trade["exchange_timestamp"], None])
        trade["exchange_timestamp"] = traded
        trade["receive_timestamp"] = (traded or trade["receive_timestamp"]) + delay
        trade["vendor_data"] = chance.choice([{}, {"off_market": "true"}, {"off_market": "false", "venue": "X"}])
        trade["symbol"] = chance.choice(["BTCUSDT", "ETHUSDT", "GONEUSDT"])
        trade["price"] = Decimal(chance.choice(["1.00000000", "0.03000000", "0.03100000", "0.00000001"]))
        trade["quantity"] = Decimal(chance.choice(["2.00000000", "0.50000000", "0.75000000"]))
    return trades


def expected(trades: Sequence[Record], numbers: tuple[int, int]) -> list[dict[str, Any]]:
    """Return the findings, by a loop over the trades."""
    by_key: dict[tuple[str, str, str, str], list[Record]] = {}
    for trade in trades:
        traded = trade["exchange_timestamp"]
        found = [
            ("clock_offset", traded is not None and trade["receive_timestamp"] - traded < -timedelta(milliseconds=1)),
            ("off_market", trade["vendor_data"].get("off_market") == "true"),
            ("unlisted_symbol", trade["symbol"] not in LISTED),
            ("off_tick", trade["symbol"] == "BTCUSDT" and trade["price"] % Decimal("0.01") != 0),
            ("off_lot", trade["symbol"] == "BTCUSDT" and trade["quantity"] % Decimal("0.5") != 0),
            ("off_lot", trade["symbol"] == "ETHUSDT" and trade["quantity"] % Decimal(2) != 0),
        ]
        for name in [name for name, holds in found if holds]:
            by_key.setdefault((trade["symbol"], trade["exchange"], trade["market"], name), []).append(trade)
    return [_row(key, by_key[key], numbers) for key in sorted(by_key)]


def _row(key: tuple[str, str, str, str], trades: list[Record], numbers: tuple[int, int]) -> dict[str, Any]:
    symbol, exchange, market, finding = key
    times = [trade["exchange_timestamp"] or trade["receive_timestamp"] for trade in trades]
    delays = [
        (trade["receive_timestamp"] - trade["exchange_timestamp"]) // timedelta(microseconds=1)
        for trade in trades
        if trade["exchange_timestamp"] is not None
    ]
    return {
        "finding": finding,
        "exchange": exchange,
        "market": market,
        "symbol": symbol,
        "trades": len(trades),
        "first_event_time": min(times),
        "last_event_time": max(times),
        "example": min(trade["message_id"] for trade in trades),
        "least_delay_us": min(delays, default=None),
        "greatest_delay_us": max(delays, default=None),
        "from_sequence_number": numbers[0],
        "to_sequence_number": numbers[1],
    }


def seen(trades: list[Record], numbers: tuple[int, int] = (3, 7), known: References = KNOWN) -> list[dict[str, Any]]:
    rows = table_form(trades)
    event_time = [trade["exchange_timestamp"] or trade["receive_timestamp"] for trade in trades]
    at = rows.schema.get_field_index("event_time")
    rows = rows.set_column(at, rows.schema.field(at), pa.array(event_time, UTC_MICROSECONDS)).select(columns(known))
    found = findings(rows, LISTED, known, numbers)
    assert found.schema == FINDINGS
    rows_found: list[dict[str, Any]] = found.to_pylist()
    return rows_found


@pytest.mark.parametrize("seed", range(5))
def test_findings_are_those_of_the_rules(seed: int) -> None:
    trades = strange_trades(500, seed)
    found = seen(trades)
    assert found == expected(trades, (3, 7))
    assert {row["finding"] for row in found} == set(Check)


@pytest.mark.parametrize(
    ("known", "more"),
    [
        ({}, []),
        ({BTC: Steps(Decimal(1))}, ["price"]),
        ({BTC: Steps(step_size=Decimal(1))}, ["quantity"]),
        ({BTC: Steps(Decimal(1)), ETH: Steps(step_size=Decimal(1))}, ["price", "quantity"]),
    ],
    ids=["nothing", "a tick size", "a step size", "of each"],
)
def test_only_what_is_known_is_read_and_looked_for(known: References, more: list[str]) -> None:
    """Without reference data findings are made from the columns of before."""
    assert columns(known) == [*COLUMNS, *more]
    names = {"price": "off_tick", "quantity": "off_lot"}
    found = {row["finding"] for row in seen(strange_trades(500, 1), known=known)}
    assert found == {"clock_offset", "off_market", "unlisted_symbol", *(names[column] for column in more)}


def test_nothing_stands_out_in_ordinary_trades() -> None:
    trades = [trade | {"symbol": "BTCUSDT", "vendor_data": {}} for trade in make_trades(50, seed=1)]
    for trade in trades:
        trade |= {"receive_timestamp": trade["exchange_timestamp"], "quantity": Decimal("1.50000000")}
    assert seen(trades) == []
    assert seen([]) == []


def test_the_row_is_the_tables() -> None:
    theirs = schema_to_pyarrow(QUALITY.iceberg_schema)
    assert [(field.name, field.nullable) for field in theirs] == [(field.name, field.nullable) for field in FINDINGS]
    assert all(field.doc for field in QUALITY.iceberg_schema.fields)
    assert plain_rows(FINDINGS.empty_table()) == []


class TestChecked:
    def test_it_is_kept_as_text(self) -> None:
        checked = Checked("one", 12)
        assert Checked.of({CHECKED_KEY: checked.dump()}, "one") == checked

    def test_another_table_begins_anew(self) -> None:
        assert Checked.of({CHECKED_KEY: Checked("one", 12).dump()}, "two") == Checked("two", 0)

    def test_so_does_one_that_nobody_has_looked_at(self) -> None:
        assert Checked.of({}, "one") == Checked("one", 0)

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"format":2,"table":"one","sequence_number":1}', '{"format":1,"table":"one"}']
    )
    def test_what_is_none_of_ours_is_refused(self, text: str) -> None:
        with pytest.raises(StateError, match=r"k2.checked: found .*, expected format 1 with table and sequence_number"):
            Checked.of({CHECKED_KEY: text}, "one")


def test_times_are_utc() -> None:
    trade = make_trades(1, seed=2)[0] | {"symbol": "GONEUSDT", "exchange_timestamp": datetime(2026, 1, 1, tzinfo=UTC)}
    assert seen([trade])[0]["first_event_time"] == datetime(2026, 1, 1, tzinfo=UTC)
