"""Which records wait: by class and level, by keys alone."""

from __future__ import annotations

import numpy as np
import pytest

from k2_core.policy.classes import Priority
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Partition, Symbol, TopicName
from k2_sink.deferral import MAX_KEYS, Deferring, KeyClasses, Stretch, defers_by_key

PRIORITIES = {Symbol("A"): Priority.LOW, Symbol("B"): Priority.NORMAL, Symbol("C"): Priority.CRITICAL}
AT = (TopicName("t"), Partition(3))


def deferring(level: Level, classes: KeyClasses | None = None) -> Deferring:
    return Deferring(level, classes or KeyClasses(PRIORITIES), 1_000)


def owed(level: int, *symbols: str) -> LedgerEntry:
    return LedgerEntry(*AT, Offset(0), Offset(9), symbols, level, "load", 1)


def test_only_the_two_levels_between_look_at_keys() -> None:
    assert [level for level in Level if defers_by_key(level)] == [Level.GRACEFUL, Level.AGGRESSIVE]


@pytest.mark.parametrize(
    ("level", "waiting"),
    [
        pytest.param(Level.GRACEFUL, [True, False, False, False], id="graceful"),
        pytest.param(Level.AGGRESSIVE, [True, True, False, True], id="aggressive"),
    ],
)
def test_a_level_defers_whole_classes_and_an_unnamed_key_is_normal(level: Level, waiting: list[bool]) -> None:
    numbers, waits = deferring(level).split([b"A", b"B", b"C", b"UNNAMED"])
    assert waits.tolist() == waiting
    assert len(set(numbers.tolist())) == 4


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"K" * 65], ids=["none", "empty", "no text", "long"])
def test_what_no_ledger_can_name_never_waits(key: bytes | None) -> None:
    assert not deferring(Level.AGGRESSIVE).split([key])[1].any()


def test_keys_without_end_stop_waiting_and_those_that_waited_go_on() -> None:
    work = deferring(Level.AGGRESSIVE)
    keys: list[bytes | None] = [b"%d" % number for number in range(MAX_KEYS + 50)]
    waits = work.split(keys)[1]
    assert int(waits.sum()) == MAX_KEYS
    assert np.array_equal(work.split(keys)[1], waits)
    assert len(work.classes) == MAX_KEYS


def test_a_level_follows_an_entry_whose_symbols_all_wait_at_it() -> None:
    work = deferring(Level.AGGRESSIVE)
    assert work.follows(owed(3, "A", "B", "X"))
    assert not work.follows(owed(3, "A", "C"))
    assert not work.follows(owed(2, "A"))


def test_a_stretch_names_what_waits_or_all_that_the_entry_before_it_names() -> None:
    stretch = Stretch(Offset(5), Offset(5), deferring(Level.GRACEFUL), 77)
    stretch.add(Offset(8), ["B", "A"], 2)
    stretch.add(Offset(9), [], 0)
    found = stretch.entry(AT)
    assert found == LedgerEntry(
        *AT, Offset(5), Offset(9), ("A", "B"), 2, "level 2 defers low", records=2, since_ms=1_000, oldest_ms=77
    )
    stretch.before = frozenset({"A", "B", "C"})
    assert stretch.entry(AT).symbols == ("A", "B", "C")
    stretch.before = frozenset({"A"})
    assert stretch.entry(AT).symbols == ("A", "B")
    assert deferring(Level.AGGRESSIVE).reason == "level 3 defers low and normal"


def test_a_raw_file_is_named_from_level_three_on_where_something_waits() -> None:
    assert [level for level in (Level.GRACEFUL, Level.AGGRESSIVE) if deferring(level).raw] == [Level.AGGRESSIVE]
    for level, named in ((Level.GRACEFUL, None), (Level.AGGRESSIVE, "raw")):
        stretch = Stretch(Offset(5), Offset(5), deferring(level), 77)
        stretch.add(Offset(8), [], 0)
        assert stretch.entry(AT, "raw").raw_file is None
        stretch.add(Offset(9), ["B"], 1)
        assert stretch.entry(AT, "raw").raw_file == named
        assert stretch.entry(AT).raw_file is None
