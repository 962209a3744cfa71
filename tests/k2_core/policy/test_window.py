"""The maximum over a while."""

from __future__ import annotations

from k2_core.policy.window import PARTS, Window, maximum, noted, width_s


def test_the_largest_value_counts_until_the_window_has_passed() -> None:
    width = width_s(150)
    window = noted((), 0, width, 9)
    for time_s in range(5, 150, 5):
        window = noted(window, time_s, width, 2)
        assert maximum(window) == 9
    window = noted(window, 170, width, 2)
    assert maximum(window) == 2


def test_within_one_part_the_largest_stays() -> None:
    width = width_s(150)
    assert noted(noted((), 1, width, 3), 2, width, 5) == ((0, 5),)
    assert noted(noted((), 1, width, 5), 2, width, 3) == ((0, 5),)


def test_it_stays_small() -> None:
    window: Window = ()
    for time_s in range(10_000):
        window = noted(window, time_s, 1.0, time_s)
    assert len(window) == PARTS + 1


def test_an_empty_one_asks_for_nothing() -> None:
    assert maximum(()) == 0
