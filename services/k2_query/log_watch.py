"""Where the log starts and stably ends, and whether it is still the same log: asks the brokers.

Queries need ends that are younger than their pinned snapshot. All that ask at about the same time share one request,
and none waits longer than it says: a broker that is away costs a query its patience, never its answer.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from k2_core.errors import RetryableError, SetupError
from k2_core.kafka import KafkaAdmin
from k2_core.types import Partition, TopicName
from k2_query.boundary import LogBounds, TopicLog

RETRY_S: Final = 0.05
"""After a failure, and while a topic does not exist: a new topic's leaders are there within this or two of it."""
REFRESH_S: Final = 1.0
"""How often ids and starts are asked for: retention moves in minutes, and a topic is made again in seconds."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The log as it was at a monotonic time: all that was stable at `asked_at` is below the ends."""

    bounds: LogBounds
    asked_at: float


class LogWatch:
    """Asks the brokers for the log's bounds: the ends on demand, ids and starts once a second.

    Two threads, so that no query waits for what it does not need.

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
        self._askers = 0
        self._asked_at = float("-inf")
        self._stopping = False
        self._described: LogBounds | None = None
        self._latest: Sighting | None = None
        self._problem: str | None = "Kafka has not been asked yet"
        self.is_late = False
        """Whether somebody has asked in vain since Kafka answered last."""
        self._threads = [
            threading.Thread(target=self._describe_for_ever, name="log-topics", daemon=True),
            threading.Thread(target=self._look_for_ever, name="log-ends", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads; a request to a broker that is away is not waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=2 * REFRESH_S)

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
        with self._changed:
            self._askers += 1
            self._asked_at = called_at
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or self._seen_since(called_at), timeout_s)
            self._askers -= 1
            if self._seen_since(called_at):
                return self._latest
            self.is_late = True
            return None

    def _seen_since(self, moment: float) -> bool:
        return self._latest is not None and self._latest.asked_at >= moment

    def _look_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._wanted(), REFRESH_S)
                if self._stopping:
                    return
                described = self._described
            if described is not None and not self._attempt(functools.partial(self._look, described)):
                self._pause(RETRY_S)

    def _wanted(self) -> bool:
        return self._described is not None and self._askers > 0 and not self._seen_since(self._asked_at)

    def _look(self, described: LogBounds) -> None:
        asked_at = self._clock()
        topics = {
            name: TopicLog(topic.id, topic.starts, self._admin.stable_ends(name, topic.starts))
            for name, topic in described.topics.items()
        }
        with self._changed:
            self._latest = Sighting(LogBounds(described.cluster_id, topics), asked_at)
            self._problem, self.is_late = None, False
            self._changed.notify_all()

    def _describe_for_ever(self) -> None:
        while not self._stopping:
            done = self._attempt(self._describe)
            self._pause(REFRESH_S if done and self._described and self._described.topics else RETRY_S)

    def _describe(self) -> None:
        topics = {}
        for name, (topic_id, count) in self._admin.describe_topics(self._topics).items():
            starts = self._admin.log_starts(name, [Partition(number) for number in range(count)])
            topics[name] = TopicLog(topic_id, starts, {})
        described = LogBounds(self._admin.cluster_id(), topics)
        with self._changed:
            self._described = described
            self._changed.notify_all()

    def _attempt(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except (RetryableError, SetupError) as error:  # a leader on the move is reported as a refusal
            if self._problem != str(error):
                _log.warning("Kafka does not answer", extra={"problem": str(error)})
            self._problem = str(error)
            return False
        return True

    def _pause(self, longest_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, longest_s)
