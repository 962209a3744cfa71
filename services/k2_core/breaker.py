"""A circuit breaker: after repeated failures it stops calls for a while, then lets one through to see.

Used by every client of something that can be away (exchange, registry, catalog). Thread-safe; it never sleeps and
never retries: the caller does, and asks first.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from k2_core.errors import CircuitOpenError, RetryableError


class BreakerState(enum.IntEnum):
    """The three states; the numbers are those of the metric `k2_circuit_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class CircuitBreaker:
    """Counts failures in a row and opens at the threshold.

    Args:
        name: Of what it guards, for messages and metrics.
        failure_threshold: Failures in a row that open it, at least 1.
        cooldown_s: Seconds that it stays open before one trial call is let through.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        cooldown_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._failure_threshold = failure_threshold
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_at: float | None = None
        self._trial_under_way = False

    @property
    def state(self) -> BreakerState:
        """The state now; an open breaker whose cool-down is over counts as half open."""
        with self._lock:
            return self._state()

    def _state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        over = self._clock() - self._opened_at >= self._cooldown_s
        return BreakerState.HALF_OPEN if over else BreakerState.OPEN

    @property
    def remaining_s(self) -> float:
        """Seconds until a call is let through again; 0 unless open."""
        with self._lock:
            if self._opened_at is None:
                return 0.0
            return max(0.0, self._cooldown_s - (self._clock() - self._opened_at))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Let a call through, or refuse it, and learn from its outcome. Only retryable errors count as failures.

        Raises:
            CircuitOpenError: The breaker is open, or half open with a trial call under way.
        """
        self.acquire()
        try:
            yield
        except RetryableError:
            self.failed()
            raise
        except BaseException:
            self.abandoned()
            raise
        self.succeeded()

    def acquire(self) -> None:
        """Ask whether a call may be made; whoever asked must say `succeeded`, `failed` or `abandoned`."""
        with self._lock:
            state = self._state()
            if state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and self._trial_under_way):
                raise CircuitOpenError(f"{self.name}: {self._failures} failures in a row, circuit is {state.name}")
            self._trial_under_way = state is BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """Close: what it guards answers."""
        with self._lock:
            self._failures = 0
            self._opened_at = None
            self._trial_under_way = False

    def failed(self) -> None:
        """Count a failure, and open at the threshold or when the trial call failed."""
        with self._lock:
            self._failures += 1
            if self._trial_under_way or self._failures >= self._failure_threshold:
                self._opened_at = self._clock()
            self._trial_under_way = False

    def abandoned(self) -> None:
        """Forget a call that said nothing of what it was guarding (it was cancelled, or its input was bad)."""
        with self._lock:
            self._trial_under_way = False
