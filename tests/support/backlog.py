"""Keeps what a pipeline's sinks have not read within bounds, by what it writes to the log: load as a test wants it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from load import Load

from k2_core.errors import RetryableError
from k2_core.kafka import KafkaAdmin
from k2_core.sink_report import SinkReport, newest
from k2_core.types import Partition, TopicName

EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Band:
    """Unread records: whenever there are fewer than `least`, so many are written that there are `most`."""

    least: int
    most: int


class Backlog:
    """Tops up what is unread, from a thread, until the end of the block.

    What is unread is reckoned as a controller does, from the ends of the log and the positions that sinks told, so that
    no more is seen of it than is meant. Records come in bursts: between two of them a controller sees a log that rests.

    Args:
        admin: Of the pipeline's Kafka.
        topic: What is written to.
        partitions: How many it has.
        group: Of the sinks.
        load: Writes; nobody else may tell it what to do.
    """

    def __init__(self, admin: KafkaAdmin, topic: TopicName, partitions: int, group: str, load: Load) -> None:
        self._admin, self._topic, self._group, self._load = admin, topic, group, load
        self._partitions = [Partition(number) for number in range(partitions)]
        self._band: Band | None = None
        self._asked = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backlog")

    def __enter__(self) -> Backlog:
        """Begin; nothing is written before a band is asked for."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write no more."""
        self._over.set()
        self._thread.join()

    def keep(self, band: Band | None) -> None:
        """Keep what is unread within these bounds from now on; None: write nothing."""
        with self._lock:
            self._band = band

    def write(self, records: int) -> None:
        """Write so many records; only while nothing else is asked for."""
        with self._lock:
            assert self._band is None
            self._write(records)

    @property
    def written(self) -> bool:
        """Whether all that was to be written stands in the log."""
        return self._load.sent >= self._asked

    def unread(self) -> int:
        """Return how many records no sink has told to have read."""
        told = self._admin.group_signals(self._group, self._topic)
        ends = self._admin.stable_ends(self._topic, self._partitions)
        return sum(end - (told[at][0] if at in told else 0) for at, end in ends.items())

    def reports(self) -> list[SinkReport]:
        """Return the newest word of each sink that ever spoke and was not spoken over."""
        told = self._admin.group_signals(self._group, self._topic)
        return list(newest(SinkReport.parse(text) for _, text in told.values()).values())

    def _write(self, records: int) -> None:
        self._asked += records
        self._load.burst(records)

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            with self._lock:
                if self._band is None or not self.written:
                    continue
                try:
                    unread = self.unread()
                except RetryableError:  # the next turn asks again
                    continue
                if unread < self._band.least:
                    self._write(self._band.most - unread)
