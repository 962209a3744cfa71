from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_query import narrowing
from k2_query.file_index import FileIndex, FileStats
from k2_query.narrowing import bounds, first_part, sequence_range
from k2_query.ordering import Order
from k2_query.params import to_us
from k2_query.segments import Window
from support.engines import logged
from support.query import BASE, Record, make_record, make_records


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (
            Window("A", to_us(BASE) + 1, to_us(BASE) + 999_999),
            BASE.replace(microsecond=1),
            BASE.replace(microsecond=999_999),
        ),
        (Window("A", -(2**62), 2**62), datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)),
    ],
    ids=["to-the-microsecond", "without-end"],
)
def test_a_window_s_bounds_are_exact_and_never_out_of_reach(window: Window, start: datetime, end: datetime) -> None:
    assert bounds(window) == ("A", start, end)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([*make_records("A", 30, 5, BASE), make_record("A", 7, BASE)], (7, 34)),
        ([make_record("A", 7, BASE), make_record("A", 8, BASE, sequence=None)], None),
        ([], None),
    ],
    ids=["all", "one-without", "none"],
)
def test_sequences_are_a_range_only_if_every_row_has_one(
    records: list[Record], expected: tuple[int, int] | None
) -> None:
    assert sequence_range(logged(records)) == expected


def index_of(files: list[list[int]]) -> FileIndex:
    """Return the index of files that hold trades of A at these times."""
    return FileIndex(
        tuple(
            FileStats(
                path=str(number),
                rows=len(times),
                nbytes=1,
                partition=(),
                bucket=None,
                symbols=("A", "A"),
                event_us=(min(times), max(times)),
                sequence=(0, 0),
            )
            for number, times in enumerate(files)
        )
    )


def first_times(files: list[list[int]], window: Window, order: Order, limit: int) -> list[int]:
    found = [at for times in files for at in times if window.start_us <= at < window.end_us]
    return sorted(found, reverse=order is Order.DESC)[:limit]


times = st.lists(st.integers(0, 60), min_size=1, max_size=6)


@given(st.lists(times, max_size=8), st.integers(0, 60), st.integers(0, 60), st.sampled_from(Order), st.integers(1, 5))
def test_a_first_part_with_enough_rows_has_the_first_ones(
    files: list[list[int]], start: int, end: int, order: Order, limit: int
) -> None:
    window = Window("A", min(start, end), max(start, end))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrowing, "LEAST_ROWS", 1)
        patch.setattr(narrowing, "ROWS_FOR_ONE", 1)
        part = first_part(index_of(files), window, order, limit)
    if part is not None:
        assert window.start_us <= part.start_us < part.end_us <= window.end_us
        assert part != window
        first = first_times(files, part, order, limit)
        assert first == first_times(files, window, order, limit)[: len(first)]


@pytest.mark.parametrize(
    ("order", "part"), [(Order.ASC, Window("A", 0, 20)), (Order.DESC, Window("A", 80, 100))], ids=["oldest", "newest"]
)
def test_the_first_part_ends_where_the_files_begin_that_are_probably_not_needed(
    order: Order, part: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [[at, at + 9] for at in range(0, 100, 10)]
    window = Window("A", 0, 100)
    assert first_part(index_of(files), window, order, 5) is None
    monkeypatch.setattr(narrowing, "LEAST_ROWS", 4)
    monkeypatch.setattr(narrowing, "ROWS_FOR_ONE", 2)
    assert first_part(index_of(files), window, order, 2) == part
    assert first_part(index_of(files), window, order, 11) is None
    assert first_part(index_of([[0, 99], [0, 99], [0, 99]]), window, order, 2) is None
    assert first_part(index_of([]), window, order, 2) is None
