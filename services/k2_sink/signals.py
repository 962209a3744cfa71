"""Tells whoever looks at Kafka how far the table is: the group `committed_group`, after each commit.

Called by the sink's loop, which it never stops or slows: one write at a time is under way, in the client's own thread,
and what comes meanwhile waits as the newest only. What fails is said once and is made good by the next commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime

from k2_core.clock import utc_now
from k2_core.commit_signal import CommitSignal
from k2_core.kafka import KafkaAdmin
from k2_core.types import Offset
from k2_sink.protocol import LogPartition

_log = logging.getLogger(__name__)


class CommitSignals:
    """Writes the committed positions of one pipeline.

    Args:
        admin: Of the pipeline's Kafka; not the consumer, whose group is another.
        group: See `Pipeline.committed_group`.
        now: UTC.
    """

    def __init__(self, admin: KafkaAdmin, group: str, now: Callable[[], datetime] = utc_now) -> None:
        self._admin = admin
        self._group = group
        self._now = now
        self._changed = threading.Condition()
        self._under_way = False
        self._waiting: dict[LogPartition, tuple[Offset, str]] = {}
        self._failed = False

    def tell(
        self,
        positions: Mapping[LogPartition, Offset],
        newest_event_time: datetime | None,
        committed_at: datetime | None = None,
    ) -> None:
        """Tell where a commit left partitions, soon.

        Args:
            positions: `next` of each partition.
            newest_event_time: Of the commit's rows, UTC, or None.
            committed_at: UTC; None means now.
        """
        text = CommitSignal(committed_at or self._now(), newest_event_time).dump()
        with self._changed:
            self._waiting |= {at: (offset, text) for at, offset in positions.items()}
        self._send()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything was told, or could not be; returns whether that was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way and not self._waiting, timeout_s)

    def _send(self) -> None:
        """Send what waits, unless a write is under way, which then sends it when it is done."""
        with self._changed:
            if self._under_way or not self._waiting:
                return
            signals, self._waiting, self._under_way = self._waiting, {}, True
        self._admin.write_group_signals(self._group, signals).add_done_callback(self._done)

    def _done(self, written: Future[object]) -> None:
        error = written.exception()
        if error is not None and not self._failed:  # policy: a missing signal is not a missing row
            _log.warning(
                "committed positions were not written, the next commit tries again", extra={"error": str(error)}
            )
        with self._changed:
            self._failed = error is not None
            self._under_way = False
            self._changed.notify_all()
        self._send()
