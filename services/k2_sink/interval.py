"""When a batch is due: after the interval or with enough rows, whichever comes first.

The interval is the longest of what the pipeline says, what the controller wants, and what commits themselves take when
several sinks take turns. It is that from one commit to the next: under load, records wait from the moment at which the
last batch was closed, while that is written. Called by the sink's loop. Pure but for its clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from k2_core.spec import SinkSpec

FIRST_INTERVAL_S: Final = 1.0
"""The first commit of a process is early, so that a catalog or warehouse that refuses shows at once."""
COMMIT_TIMES_PER_INTERVAL: Final = 2
"""Sinks take turns at one table: an interval holds twice as many commits as there are sinks, so that none starves."""
READING_AT_LEAST: Final = 0.4
"""Share of an interval in which a batch is read, however long the last one was written. Less would keep an age that
grows with the writing shorter; more would leave a sink more time to read where a store takes long for any batch."""


class CommitInterval:
    """The time of one batch.

    Args:
        spec: What the pipeline says.
        asked: Returns the interval that the controller wants, in seconds; None: it wants none.
        clock: Monotonic seconds.
    """

    def __init__(
        self, spec: SinkSpec, asked: Callable[[], float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spec = spec
        self._asked = asked
        self._clock = clock
        self._began_at: float | None = None
        self._closed_at: float | None = None
        self.seconds = min(FIRST_INTERVAL_S, spec.commit_interval_seconds)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to commit yet."""
        return self._began_at is None

    def begin(self) -> None:
        """Begin with an empty batch."""
        self._began_at = None

    def note(self, *, empty: bool) -> None:
        """Take notice of whether there is something to commit: from its first record on, its time runs.

        A record that is there at once may have waited since the last batch was closed, and its time runs since then.
        """
        if self._began_at is not None:
            return
        if not empty:
            now = self._clock()
            waiting_since = now if self._closed_at is None else self._closed_at
            self._began_at = max(waiting_since, now - (1 - READING_AT_LEAST) * self.seconds)
        self._closed_at = None

    def close(self) -> None:
        """Close the batch that is to be committed: what comes from now on waits for the next one."""
        self._closed_at = self._clock()

    def due(self, rows: int) -> bool:
        """Return whether a batch of so many rows is to be committed."""
        if self._began_at is None:
            return False
        return self._clock() - self._began_at >= self.seconds or rows >= self._spec.commit_records

    def took(self, commit_s: float) -> None:
        """Learn how long a commit took."""
        turns_s = COMMIT_TIMES_PER_INTERVAL * self._spec.replicas * commit_s
        self.seconds = max(self._spec.commit_interval_seconds, turns_s, self._asked() or 0.0)
