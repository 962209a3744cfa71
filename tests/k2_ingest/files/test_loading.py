"""Which rows of a file go into the log: those that it does not have."""

from __future__ import annotations

from k2_core.codec import BatchDecoder
from k2_core.intervals import IntervalSet
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import Symbol
from k2_ingest.files.encode import Dataset, RowEncoder
from k2_ingest.files.loading import Loading, Portion
from k2_ingest.files.progress import Progress
from support.asx import line

LINES = [line(1), b"bad", line(3), line(4), b"worse", line(6)]


def loading(progress: Progress) -> Loading:
    return Loading(RowEncoder(Dataset("asx.a", "asx", "equities", Symbol("A")), "d1"), "d1", progress)


def rows(portion: Portion) -> list[int]:
    decoded = BatchDecoder(TRADES, PackagedSchemas().by_id).decode(portion.values)
    return [int(row) for row in decoded.rows.column("sequence").to_pylist()]


def test_a_new_file_goes_in_whole_row_by_row() -> None:
    load = loading(Progress())
    first, second = load.take(LINES[:4], 10**18), load.take(LINES[4:], 10**18)
    assert (rows(first), rows(second)) == ([1, 3, 4], [6])
    assert [(one.row, one.line) for part in (first, second) for one in part.refused] == [(2, b"bad"), (5, b"worse")]
    assert (first.lines, second.lines, load.rows) == (4, 2, 6)


def test_it_goes_on_after_the_last_row_in_the_log() -> None:
    letters = {"d1": IntervalSet.of_ranges([(2, 3)])}
    portion = loading(Progress(3, "d1", letters)).take(LINES, 10**18)
    assert rows(portion) == [4, 6]
    assert [one.row for one in portion.refused] == [5]


def test_a_dead_letter_that_was_lost_on_its_way_is_written_again() -> None:
    portion = loading(Progress(6, "d1")).take(LINES, 10**18)
    assert portion.values == []
    assert [one.row for one in portion.refused] == [2, 5]


def test_dead_letters_of_another_version_prove_nothing() -> None:
    letters = {"d0": IntervalSet.of_ranges([(2, 3)])}
    assert [one.row for one in loading(Progress(0, None, letters)).take(LINES, 10**18).refused] == [2, 5]


def test_a_block_without_a_trade() -> None:
    portion = loading(Progress(6, "d1")).take([b"bad"], 10**18)
    assert (portion.lines, portion.values, [one.row for one in portion.refused]) == (1, [], [1])
