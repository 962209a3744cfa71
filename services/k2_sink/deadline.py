"""A moment by which something has to be over, in place of the event that stops a sink.

Used by the sink's loop, where waiting is bounded by time and not by a person's word.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """Stands in for a stop event where waiting is bounded by a moment: it is set when the moment has passed.

    Args:
        deadline: By `clock`.
        clock: Monotonic seconds.
    """

    def __init__(self, deadline: float, clock: Callable[[], float]) -> None:
        self._deadline = deadline
        self._clock = clock

    def is_set(self) -> bool:
        """Return whether it is over."""
        return self._clock() >= self._deadline

    def wait(self, timeout_s: float) -> bool:
        """Wait, and return whether it is over."""
        left = self._deadline - self._clock()
        time.sleep(max(0.0, min(timeout_s, left)))
        return left <= timeout_s
