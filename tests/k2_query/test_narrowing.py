from __future__ import annotations

from datetime import UTC, datetime

import pytest

from k2_query.narrowing import bounds, sequence_range
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
