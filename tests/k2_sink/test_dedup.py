"""Ids that were seen, as sets: against what plain Python says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.intervals import IntervalSet
from k2_sink.dedup import SeenIds, id_spaces, ids_of

SPACES = [("binance", "spot", "BTCUSDT"), ("binance", "spot", "ETHUSDT"), ("binance", "margin", "BTCUSDT")]


def rows(ids: list[tuple[int, int | None]]) -> pa.Table:
    spaces = [SPACES[space] for space, _ in ids]
    return pa.table(
        {
            "exchange": pa.array([space[0] for space in spaces], pa.string()),
            "market": pa.array([space[1] for space in spaces], pa.string()),
            "symbol": pa.array([space[2] for space in spaces], pa.string()),
            "sequence": pa.array([sequence for _, sequence in ids], pa.int64()),
        }
    )


def test_each_market_and_symbol_counts_for_itself() -> None:
    found = ids_of(rows([(0, 1), (1, 1), (2, 1), (0, 2)]))
    assert {space: list(ids) for space, ids in found.items()} == {
        SPACES[0]: [(1, 3)],
        SPACES[1]: [(1, 2)],
        SPACES[2]: [(1, 2)],
    }


def test_rows_without_a_sequence_are_in_no_space() -> None:
    assert id_spaces(rows([(0, None), (1, None)])) == {}
    assert not SeenIds().duplicates(rows([(0, None), (0, None)]))[0].any()


def test_no_rows_have_no_spaces() -> None:
    assert id_spaces(rows([])) == {}


def test_pending_ids_are_forgotten_with_their_batch_and_kept_with_its_commit() -> None:
    seen = SeenIds()
    seen.expect(ids_of(rows([(0, 1)])))
    seen.drop_pending()
    assert not seen.duplicates(rows([(0, 1)]))[0].any()
    seen.expect(ids_of(rows([(0, 1)])))
    seen.confirm()
    assert seen.pending == {}
    assert seen.committed == {SPACES[0]: IntervalSet.of_ranges([(1, 2)])}


def test_asking_remembers_nothing() -> None:
    seen = SeenIds()
    seen.duplicates(rows([(0, 1)]))
    assert seen.duplicates(rows([(0, 1)]))[0].tolist() == [False]


@pytest.mark.parametrize("known_as", ["committed", "pending"])
@given(
    before=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30))),
    now=st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 30)))),
)
def test_a_row_is_a_duplicate_iff_its_id_stood_before(
    known_as: str, before: list[tuple[int, int]], now: list[tuple[int, int | None]]
) -> None:
    seen = SeenIds()
    seen.expect(ids_of(rows(list(before))))
    if known_as == "committed":
        seen.confirm()
    repeated, fresh = seen.duplicates(rows(now))
    known: set[tuple[int, int | None]] = set(before)
    expected = []
    for item in now:
        expected.append(item in known and item[1] is not None)
        known.add(item)
    assert repeated.tolist() == expected
    found = {
        (SPACES.index(space), number)
        for space, ids in fresh.items()
        for start, end in ids
        for number in np.arange(start, end).tolist()
    }
    assert found == {item for item, again in zip(now, expected, strict=True) if not again and item[1] is not None}
