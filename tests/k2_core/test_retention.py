"""How long a log that is bounded in bytes keeps what is owed: against one that is filled at a steady rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.retention import Kept, capacity_records, kept_by_size, tightest


@given(st.integers(1, 1_000), st.integers(1, 50), st.floats(0.01, 100), st.integers(1, 2_000))
def test_what_is_owed_leaves_when_the_bytes_behind_it_are_used_up(
    room: int, record_bytes: int, every_s: float, behind: int
) -> None:
    kept = kept_by_size(behind * every_s, behind, capacity_records(room * record_bytes, record_bytes))
    assert kept.retention_s == pytest.approx(room * every_s)
    assert kept.left_s == pytest.approx(max(0, room - behind) * every_s, abs=1e-6)


@given(st.lists(st.builds(Kept, st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1))
def test_the_tightest_has_the_least_time_left(kept: list[Kept]) -> None:
    found = tightest(kept)
    assert found in kept
    assert found is not None
    assert found.left_s == min(one.left_s for one in kept)
    assert found.left_s >= 0


def test_of_none_there_is_no_tightest() -> None:
    assert tightest([]) is None
