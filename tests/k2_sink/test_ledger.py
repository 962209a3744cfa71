"""The ledger's arithmetic, one fact a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, TopicName
from k2_sink.ledger import Paid, to_drain, with_deferred, without_paid

TOPIC = TopicName("market.crypto.trades.binance")


def owed(
    start: int, end: int, *symbols: str, records: int = 1, level: int = 2, partition: int = 0, oldest_ms: int = 0
) -> LedgerEntry:
    at = Partition(partition)
    return LedgerEntry(TOPIC, at, Offset(start), Offset(end), symbols, level, "load", records, 7, oldest_ms)


def test_what_follows_on_with_the_same_symbols_is_one_entry() -> None:
    other = owed(0, 30, "C", partition=1)
    found = with_deferred([owed(0, 10, "A", records=2), other], [owed(10, 20, "A", records=3)], None)
    assert found == (owed(0, 20, "A", records=5), other)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(owed(11, 20, "A"), id="a hole between"),
        pytest.param(owed(10, 20, "A", level=3), id="another level"),
        pytest.param(owed(10, 20, "A", "B"), id="a symbol more"),
        pytest.param(owed(10, 20, "B"), id="another symbol"),
    ],
)
def test_what_might_name_a_record_of_the_table_stays_apart(later: LedgerEntry) -> None:
    assert with_deferred([owed(0, 10, "A")], [later], None) == (owed(0, 10, "A"), later)
    assert with_deferred([owed(0, 10, "A")], [later], Offset(10)) == (owed(0, 10, "A"), later)


def test_symbols_are_united_in_what_one_owner_deferred_without_a_break() -> None:
    assert with_deferred([owed(4, 10, "B")], [owed(10, 20, "A")], Offset(4)) == (owed(4, 20, "A", "B", records=2),)


def test_a_stretch_without_records_lengthens_an_entry_and_makes_none() -> None:
    nothing = owed(10, 20, "A", records=0)
    assert with_deferred([owed(0, 10, "A")], [nothing], None) == (owed(0, 20, "A"),)
    assert with_deferred([owed(0, 9, "A")], [nothing], None) == (owed(0, 9, "A"),)
    assert with_deferred([], [nothing], None) == ()


@pytest.mark.parametrize(("before", "after"), [(None, "second"), ("first", None)])
def test_what_only_the_log_holds_stays_apart_from_what_raw_files_hold(before: str | None, after: str | None) -> None:
    one, other = replace(owed(0, 10, "A"), raw_file=before), replace(owed(10, 20, "A"), raw_file=after)
    assert with_deferred([one], [other], Offset(0)) == (one, other)


def test_the_newest_raw_file_is_named_and_a_stretch_without_records_changes_nothing() -> None:
    one, other = replace(owed(0, 10, "A"), raw_file="first"), replace(owed(10, 20, "A"), raw_file="second")
    assert with_deferred([one], [other], None) == (replace(owed(0, 20, "A", records=2), raw_file="second"),)
    nothing = owed(10, 20, "A", records=0)
    assert with_deferred([one], [nothing], None) == (replace(owed(0, 20, "A"), raw_file="first"),)
    assert without_paid([one], [Paid(one, Offset(5), 0)]) == (replace(owed(5, 10, "A"), raw_file="first"),)


def test_what_is_paid_is_gone_and_the_rest_is_left() -> None:
    first, second = owed(0, 10, "A", records=4), owed(20, 30, "A", records=4, oldest_ms=5)
    paid = [Paid(first, Offset(10), 4), Paid(second, Offset(25), 3, oldest_ms=9)]
    assert without_paid([first, second], paid) == (owed(25, 30, "A", oldest_ms=9),)


def test_the_oldest_is_drained_first_and_a_partition_in_its_order() -> None:
    young, old = owed(0, 10, "A", oldest_ms=50), owed(0, 10, "A", partition=1, oldest_ms=10)
    set_back = owed(10, 20, "A", "B", oldest_ms=1)  # by a producer with another clock
    assert to_drain([young, set_back, old], Level.NORMAL, {}) == [old, young, set_back]


@pytest.mark.parametrize("level", list(Level))
def test_under_load_only_what_would_leave_the_log_is_drained(level: Level) -> None:
    early, late = owed(0, 10, "A", oldest_ms=10), owed(20, 30, "A", oldest_ms=99)
    found = to_drain([early, late], level, {TOPIC: 50})
    expected = {Level.NORMAL: [early, late], Level.SOFT: [early, late], Level.CIRCUIT_BREAK: []}
    assert found == expected.get(level, [early])
    assert to_drain([early, late], level, {}, {(TOPIC, early.partition): 20}) == found  # by bytes: it begins before
    kept = replace(early, raw_file="raw")
    urgent: list[LedgerEntry] = []
    assert to_drain([kept], level, {TOPIC: 50}) == ([kept] if level <= Level.SOFT else urgent)
