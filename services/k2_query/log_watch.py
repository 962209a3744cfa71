"""Where the log starts and stably ends, and whether it is still the same log: one thread that asks the brokers.

Queries need ends that are younger than their pinned snapshot. All that ask at about the same time share one request,
and none waits longer than it says: a broker that is away costs a query its patience, never its answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from k2_core.errors import K2Error, RetryableError, SetupError
from k2_core.kafka import KafkaAdmin
from k2_core.types import Partition, TopicName
from k2_query.boundary import LogBounds, TopicLog

REFRESH_S: Final = 1.0
"""How often ids and starts are asked for: retention moves in minutes, and a topic is made again in seconds."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The log as it was at a monotonic time: all that was stable at `asked_at` is below the ends."""

    bounds: LogBounds
    asked_at: float


class LogWatch:
    """Asks the brokers for the log's bounds, on demand and once a second.

    Args:
        admin: The brokers.
        topics: Those of the pipeline; they need not exist yet.
        clock: Monotonic seconds.
    """

    def __init__(
        self, admin: KafkaAdmin, topics: Sequence[TopicName], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._admin = admin
        self._topics = tuple(topics)
        self._clock = clock
        self._changed = threading.Condition()
        self._wanted = False
        self._stopping = False
        self._latest: Sighting | None = None
        self._problem: str | None = "Kafka has not been asked yet"
        self._refreshed_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="log-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; it ends when a request that is under way does, and is not waited for longer than that."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout=2 * REFRESH_S)

    @property
    def latest(self) -> Sighting | None:
        """The newest sighting, however old."""
        return self._latest

    @property
    def problem(self) -> str | None:
        """What went wrong with the last request, or None."""
        return self._problem

    def ask(self, timeout_s: float) -> Sighting | None:
        """Return bounds that were asked for after this call began, or None if that takes too long."""
        called_at = self._clock()

        def fresh() -> bool:
            return self._stopping or (self._latest is not None and self._latest.asked_at >= called_at)

        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(fresh, timeout_s)
            latest = self._latest
        return latest if latest is not None and latest.asked_at >= called_at else None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stopping, REFRESH_S)
                if self._stopping:
                    return
                self._wanted = False
            self._look()

    def _look(self) -> None:
        asked_at = self._clock()
        try:
            bounds = self._bounds(asked_at)
        except (RetryableError, SetupError) as error:  # a leader on the move is reported as a refusal
            self._failed(error)
            return
        with self._changed:
            if self._problem is not None:
                _log.info("Kafka answers", extra={"topics": sorted(bounds.topics)})
            self._problem = None
            self._latest = Sighting(bounds, asked_at)
            self._changed.notify_all()

    def _failed(self, error: K2Error) -> None:
        self._refreshed_at = float("-inf")  # whatever comes back may be another log
        with self._changed:
            if self._problem != str(error):
                _log.warning("Kafka does not answer", extra={"problem": str(error)})
            self._problem = str(error)

    def _bounds(self, now: float) -> LogBounds:
        known = self._latest.bounds if self._latest else None
        if known is None or not known.topics or now - self._refreshed_at >= REFRESH_S:
            known = self._describe()
            self._refreshed_at = now
        topics = {
            name: TopicLog(topic.id, topic.starts, self._admin.stable_ends(name, topic.starts))
            for name, topic in known.topics.items()
        }
        return LogBounds(known.cluster_id, topics)

    def _describe(self) -> LogBounds:
        topics = {}
        for name, (topic_id, count) in self._admin.describe_topics(self._topics).items():
            starts = self._admin.log_starts(name, [Partition(number) for number in range(count)])
            topics[name] = TopicLog(topic_id, starts, {})
        return LogBounds(self._admin.cluster_id(), topics)
