"""The account of files read once; whole runs are in tests/integration/test_files.py."""

from __future__ import annotations

import pyarrow as pa

from k2_cli.completeness import Held
from k2_cli.loading import FileAccount, LoadAccount, count_lines, rows_held
from k2_core.intervals import IntervalSet


def table(*rows: tuple[str, int]) -> pa.Table:
    return pa.table({"market": [name for name, _ in rows], "sequence": [row for _, row in rows]})


def account(held: Held, letters: list[tuple[int, int]]) -> FileAccount:
    return FileAccount.of("asx.a", "a.csv", 5, held, IntervalSet.of_ranges(letters))


def test_lines_are_counted_with_or_without_a_last_end() -> None:
    assert [count_lines(blocks) for blocks in ([], [b"a\nb\n"], [b"a\n", b"b"], [b"a", b"\n"])] == [0, 2, 2, 1]


def test_rows_are_held_by_dataset_over_all_parts() -> None:
    held = rows_held([table(("asx.a", 1), ("asx.b", 1), ("asx.a", 2)), table(("asx.a", 3), ("asx.a", 2))])
    assert {name: (one.rows, list(one.numbers), one.repeated) for name, one in held.items()} == {
        "asx.a": (4, [(1, 4)], 1),
        "asx.b": (1, [(1, 2)], 0),
    }


def test_what_is_in_the_table_or_a_dead_letter_is_there() -> None:
    held = rows_held([table(("asx.a", 1), ("asx.a", 3), ("asx.a", 4), ("asx.a", 5))])["asx.a"]
    assert account(held, [(2, 3)]) == FileAccount("asx.a", "a.csv", 5, 4, 1, 0, 0)
    assert account(held, []) == FileAccount("asx.a", "a.csv", 5, 4, 0, 1, 0)


def test_an_account_is_exact_only_without_missing_and_repeated_rows() -> None:
    whole = FileAccount("asx.a", "a.csv", 5, 5, 0, 0, 0)
    assert LoadAccount((whole,), 2.0).exact
    assert LoadAccount((whole,), 2.0).complaints() == []
    bad = LoadAccount((whole, FileAccount("asx.b", "b.csv", 5, 4, 0, 1, 2)), 2.0)
    assert not bad.exact
    assert bad.complaints() == ["asx.b: 1 rows are missing", "asx.b: 2 rows are duplicates"]
    assert not LoadAccount((FileAccount("asx.b", "b.csv", 5, 5, 0, 0, 1),), 1.0).exact


def test_what_is_printed() -> None:
    document = LoadAccount((FileAccount("asx.a", "a.csv", 5, 4, 1, 0, 0),), 2.0).document()
    names = ("dataset", "path", "rows", "committed", "dead_lettered", "missing", "duplicates")
    assert document == {
        "files": [dict(zip(names, ("asx.a", "a.csv", 5, 4, 1, 0, 0), strict=True))],
        "wall_s": 2.0,
        "rows_per_s": 2.5,
    }
    assert LoadAccount((), 0.0).document()["rows_per_s"] is None
