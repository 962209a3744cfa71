"""k2_cli.sizes."""

from __future__ import annotations

import pytest

from k2_cli.sizes import DEFAULT_BYTES, RESERVE_BYTES, DiskBudget, parse_size
from k2_core.errors import SetupError, SpecError

GB = 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("5GB", 5 * GB, id="GB"),
        pytest.param("500 MB", 500 * 10**6, id="space"),
        pytest.param("1.5GiB", 3 * 2**29, id="binary"),
        pytest.param("2g", 2 * GB, id="short"),
        pytest.param("123456", 123_456, id="bytes"),
        pytest.param("7kB", 7_000, id="kilo"),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-5GB", "5 apples", "GB", "5GBs"])
def test_what_is_no_size_is_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(SpecError, match=f"--max-disk: found '{text}', expected a size such as 5GB"):
        parse_size(text)


def test_the_default_is_20_gb_or_80_percent_of_what_there_is() -> None:
    assert DiskBudget.choose(None, 0, 100 * GB).limit_bytes == DEFAULT_BYTES
    assert DiskBudget.choose(None, 0, 10 * GB).limit_bytes == 8 * GB
    assert DiskBudget.choose(None, 1 * GB, 10 * GB).limit_bytes == 9 * GB


def test_a_wish_is_taken_as_it_is() -> None:
    assert DiskBudget.choose("5GB", 0, 100 * GB).limit_bytes == 5 * GB


def test_a_limit_too_small_to_run_in_is_bad_input() -> None:
    with pytest.raises(SpecError, match="found '10MB', expected at least 50MB"):
        DiskBudget.choose("10MB", 0, 100 * GB)


@pytest.mark.parametrize(
    ("used", "free", "found"),
    [
        pytest.param(GB, 100 * GB, "found 1000 MB in use, expected less than the limit of 1000 MB", id="folder"),
        pytest.param(0, RESERVE_BYTES - 1, "found 199 MB free, expected at least 200 MB", id="disk"),
    ],
)
def test_no_room_to_start_is_said(used: int, free: int, found: str) -> None:
    with pytest.raises(SetupError, match=found):
        DiskBudget.choose("1GB", used, free)


def test_it_is_time_to_stop_while_there_is_room_to_drain() -> None:
    budget = DiskBudget(GB)
    assert budget.exceeded(949 * 10**6, 10 * GB) is None
    assert "limit of 1000 MB" in (budget.exceeded(950 * 10**6, 10 * GB) or "")
    assert budget.exceeded(0, RESERVE_BYTES) is None
    assert "free" in (budget.exceeded(0, RESERVE_BYTES - 1) or "")
