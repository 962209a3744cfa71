"""What one query may take: its deadline, and the way to stop it from another thread.

The route's coroutine makes it and cancels it on time-out or when the client hangs up; the thread that works asks it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from k2_core.errors import RetryableError


class Budget:
    """The time of one query. Thread-safe.

    Args:
        timeout_s: Seconds from now.
        clock: Monotonic seconds.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline = clock() + timeout_s
        self._lock = threading.Lock()
        self._cancelled: str | None = None
        self._interrupt: Callable[[], None] | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds that are left, never below 0."""
        return max(0.0, self._deadline - self._clock())

    @property
    def cancelled(self) -> bool:
        """Whether somebody has called `cancel`."""
        return self._cancelled is not None

    def cancel(self, reason: str) -> None:
        """Stop the query. To be repeated until it has stopped: a call that was about to start may miss the first."""
        with self._lock:
            self._cancelled = self._cancelled or reason
            if self._interrupt is not None:
                self._interrupt()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            RetryableError: The query was cancelled or its time is over.
        """
        if self._cancelled is not None:
            raise RetryableError(self._cancelled)
        if not self.remaining_s:
            raise RetryableError(f"query: found no end after {self._timeout_s:g} s, expected one; ask for less")

    @contextlib.contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have `cancel` call this too while the block runs."""
        self.check()
        with self._lock:
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None
