"""Tells whoever looks at Kafka what this service found when it last asked its Trino; see `k2_core.engine_report`.

Called by `k2_query.engine_watch` after each question, which it never makes wait: one write at a time is under way, in
the client's own thread, and what comes meanwhile is left out, as the next question is seconds away.
"""

from __future__ import annotations

import logging
import uuid
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Final

from k2_core.clock import utc_now
from k2_core.engine_report import ANSWERS, EngineReport
from k2_core.errors import K2Error
from k2_core.kafka import KafkaAdmin
from k2_core.types import Offset, Partition, TopicName
from k2_query.budget import Budget
from k2_query.trino_metrics import Outcome, outcome_of

_REASONS: Final[Mapping[Outcome, str]] = {
    Outcome.REFUSED: "Refused",
    Outcome.CATALOG: "CatalogUnreachable",
    Outcome.STORAGE: "FilesUnreadable",
    Outcome.UNAVAILABLE: "Unreachable",
    Outcome.OUT_OF_TIME: "Slow",
}
_OTHER: Final = "NotAnswering"

_log = logging.getLogger(__name__)


class EngineTelling:
    """Writes what one service found.

    Args:
        admin: Of the pipeline's Kafka.
        group: See `Pipeline.engine_group`.
        topics: The pipeline's trades topics and their partitions, which give services places of their own to write to.
        name: Of the process.
        now: UTC.
    """

    def __init__(
        self,
        admin: KafkaAdmin,
        group: str,
        topics: Mapping[TopicName, int],
        name: str | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._admin = admin
        self._group = group
        self._name = name or uuid.uuid4().hex[:12]
        self._now = now
        topic, partitions = next(iter(topics.items()))
        # Two that share a place take turns: the newest of their words stands there.
        self._place = topic, Partition(zlib.crc32(self._name.encode()) % partitions)
        self._under_way: Future[object] | None = None
        self._failed = False

    def tell(self, error: K2Error | None) -> None:
        """Tell what a question found, soon.

        Args:
            error: Why there was no answer; None if there was one.
        """
        if self._under_way is not None and not self._under_way.done():
            return
        text = EngineReport(self._name, self._now(), _reason(error), None if error is None else str(error)).dump()
        self._under_way = self._admin.write_group_signals(self._group, {self._place: (Offset(0), text)})
        self._under_way.add_done_callback(self._done)

    def _done(self, written: Future[object]) -> None:
        error = written.exception()
        if error is not None and not self._failed:  # policy: `/health` says the same, and the next question tells again
            _log.warning("what Trino answers was not told to the operator", extra={"error": str(error)})
        self._failed = error is not None


def _reason(error: K2Error | None) -> str:
    return ANSWERS if error is None else _REASONS.get(outcome_of(error, Budget(1)), _OTHER)
