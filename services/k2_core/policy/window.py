"""The maximum of a quantity over a sliding window of time, in a few numbers that can be stored.

Used by `k2_core.policy.scaling` to scale down to the largest recommendation of a while. Exact to one part in fifteen of
the window, towards the longer. Pure.
"""

from __future__ import annotations

from typing import Final, TypeAlias

PARTS: Final = 15

Window: TypeAlias = tuple[tuple[int, int], ...]
"""Numbers of parts of time, ascending, each with the maximum in it."""


def width_s(window_s: float) -> float:
    """Return the seconds of one part."""
    return window_s / PARTS


def noted(window: Window, time_s: float, width: float, value: int) -> Window:
    """Return the window with one value more, and without what is too old."""
    part = int(time_s // width)
    if window and window[-1][0] == part:
        return window if window[-1][1] >= value else (*window[:-1], (part, value))
    return (*(item for item in window if item[0] >= part - PARTS), (part, value))


def maximum(window: Window) -> int:
    """Return the largest value in the window; 0 if it holds none."""
    return max((value for _, value in window), default=0)
