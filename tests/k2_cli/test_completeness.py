"""k2_cli.completeness: every way in which a table can be incomplete is found, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_cli.completeness import COLUMNS, Holdings, books, symbol_days
from k2_core.records import TRADES
from k2_core.state import CommitState, LedgerEntry, PartitionState, TopicState
from k2_core.types import Offset, Partition, TopicId, TopicName

DAY = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOPIC, TOPIC_ID = TopicName("market.crypto.trades.binance"), TopicId("id-1")
SCHEMA = pa.schema([TRADES.table_schema.field(name) for name in COLUMNS])


def row(sequence: int | None, offset: int, **changes: Any) -> dict[str, Any]:
    found = {
        "exchange": "binance",
        "market": "spot",
        "symbol": "BTCUSDT",
        "sequence": sequence,
        "event_time": DAY,
        "topic_id": TOPIC_ID,
        "kafka_partition": 3,
        "kafka_offset": offset,
    }
    return found | changes


def holdings(*files: Iterable[dict[str, Any]]) -> Holdings:
    found = Holdings()
    for rows in files:
        found.add(pa.Table.from_pylist(list(rows), SCHEMA))
    return found


def state(next_: int, ledger: tuple[LedgerEntry, ...] = (), **counts: int) -> CommitState:
    partition = PartitionState(Offset(next_), **{name: Offset(count) for name, count in counts.items()})
    return CommitState("cluster", {TOPIC: TopicState(TOPIC_ID, {Partition(3): partition})}, ledger)


def test_a_contiguous_symbol_is_complete() -> None:
    [day] = symbol_days(holdings([row(10, 0), row(11, 1)], [row(12, 2)]))
    assert (day.exchange, day.market, day.symbol, day.day) == ("binance", "spot", "BTCUSDT", date(2026, 1, 1))
    assert (day.first, day.last, day.expected, day.stored) == (10, 12, 3, 3)
    assert (day.missing, day.duplicates) == ((), 0)


def test_gaps_are_inclusive_ranges() -> None:
    [day] = symbol_days(holdings([row(10, 0), row(12, 1), row(20, 2)]))
    assert day.missing == ((11, 11), (13, 19))
    assert (day.missing_count, day.expected, day.stored) == (8, 11, 3)


@pytest.mark.parametrize("split", [True, False], ids=["in another file", "in one file"])
def test_a_repeated_id_is_a_duplicate(split: bool) -> None:
    first, second = [row(10, 0), row(11, 1)], [row(10, 2)]
    [day] = symbol_days(holdings(first, second) if split else holdings(first + second))
    assert (day.stored, day.duplicates, day.missing) == (2, 1, ())


def test_a_gap_over_midnight_is_missed_on_the_day_that_goes_on_after_it() -> None:
    tomorrow = DAY + timedelta(days=1)
    first, second = symbol_days(holdings([row(10, 0), row(13, 1, event_time=tomorrow)]))
    assert (first.missing, second.missing) == ((), ((11, 12),))
    assert (first.day, second.day) == (date(2026, 1, 1), date(2026, 1, 2))


def test_ids_that_cross_midnight_out_of_order_are_not_missing() -> None:
    tomorrow = DAY + timedelta(days=1)
    rows = [row(10, 0), row(11, 1, event_time=tomorrow), row(12, 2), row(13, 3, event_time=tomorrow)]
    first, second = symbol_days(holdings(rows))
    assert not first.missing
    assert not second.missing
    assert (first.stored, second.stored) == (2, 2)


def test_an_id_on_two_days_is_a_duplicate_of_the_later_one() -> None:
    first, second = symbol_days(holdings([row(10, 0), row(10, 1, event_time=DAY + timedelta(days=1))]))
    assert (first.duplicates, second.duplicates) == (0, 1)
    assert (first.stored, second.stored) == (1, 0)


def test_each_id_space_is_counted_alone() -> None:
    rows = [row(10, 0), row(50, 1, symbol="ETHUSDT"), row(90, 2, market="futures"), row(7, 3, exchange="kraken")]
    days = symbol_days(holdings(rows))
    assert [(day.exchange, day.market, day.symbol) for day in days] == [
        ("binance", "futures", "BTCUSDT"),
        ("binance", "spot", "BTCUSDT"),
        ("binance", "spot", "ETHUSDT"),
        ("kraken", "spot", "BTCUSDT"),
    ]
    assert not any(day.missing for day in days)


def test_rows_without_a_sequence_are_counted_apart() -> None:
    found = holdings([row(None, 0), row(10, 1)])
    assert (found.rows, found.unnumbered) == (2, 1)
    [day] = symbol_days(found)
    assert day.stored == 1


def test_a_day_of_before_1970_is_told_right() -> None:
    [day] = symbol_days(holdings([row(10, 0, event_time=datetime(1969, 12, 31, 23, tzinfo=UTC))]))
    assert day.day == date(1969, 12, 31)


def test_an_empty_table_has_no_days() -> None:
    found = holdings([])
    assert symbol_days(found) == []
    assert books(found, None).balanced


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=60), st.integers(1, 5))
def test_the_account_is_that_of_plain_sets(ids: list[tuple[int, int]], files: int) -> None:
    rows = [row(number, at, event_time=DAY + timedelta(days=day)) for at, (number, day) in enumerate(ids)]
    days = symbol_days(holdings(*(rows[start::files] for start in range(files))))
    held = {number for number, _ in ids}
    missing = {number for day in days for first, last in day.missing for number in range(first, last + 1)}
    assert missing == set(range(min(held), max(held) + 1)) - held
    assert sum(day.stored for day in days) == len(held)
    assert sum(day.duplicates for day in days) == len(ids) - len(held)
    assert sum(day.expected for day in days) == max(held) - min(held) + 1


def test_books_balance_when_rows_and_counts_make_up_the_log() -> None:
    found = holdings([row(10, 5), row(11, 6), row(12, 9)])
    counted = books(found, state(12, origin=5, duplicates=1, dead_letters=1, markers=1, lost=1))
    assert counted.balanced
    [account] = counted.accounts
    assert (account.topic, account.partition, account.rows, account.deferred) == (TOPIC, 3, 3, 0)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([row(10, 0)], state(2), id="a row less"),
        pytest.param([row(10, 0), row(11, 1), row(12, 1)], state(2), id="a position twice"),
        pytest.param([row(10, 0), row(11, 2)], state(2), id="a position beyond next"),
        pytest.param([row(10, 0), row(11, 1)], state(3, origin=1), id="a position before the origin"),
        pytest.param([row(10, 0), row(11, 1, topic_id="id-2")], state(1), id="another topic"),
        pytest.param([row(10, 0), row(11, 0, kafka_partition=4)], state(1), id="another partition"),
        pytest.param([row(10, 0)], None, id="no state"),
    ],
)
def test_books_that_do_not_balance(rows: list[dict[str, Any]], said: CommitState | None) -> None:
    assert not books(holdings(rows), said).balanced


def test_what_the_ledger_owes_is_deferred() -> None:
    entry = LedgerEntry(TOPIC, Partition(3), Offset(2), Offset(6), ("BNBUSDT",), 2, "low deferred", 3)
    found = holdings([row(10, 0), row(11, 1), row(12, 3)])  # offset 3 of the range was of another symbol
    [account] = books(found, state(6, (entry,))).accounts
    assert account.deferred == 3
    assert account.balanced
    assert not books(found, state(6)).balanced
