"""Tells whoever looks at Kafka what this service found when it last asked its Trino; see `k2_core.engine_report`.

Called by `k2_query.engine_watch` after each question, which it never makes wait; the next is seconds away.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from k2_core.clock import utc_now
from k2_core.engine_report import ANSWERS
from k2_core.errors import K2Error
from k2_core.group_telling import GroupTelling
from k2_core.kafka import KafkaAdmin
from k2_core.service_report import ServiceReport
from k2_core.types import Partition, TopicName
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
        self._name = name or uuid.uuid4().hex[:12]
        self._now = now
        topic, partitions = next(iter(topics.items()))
        place = topic, Partition(zlib.crc32(self._name.encode()) % partitions)
        self._telling = GroupTelling(admin, group, place, "what Trino answers")

    def tell(self, error: K2Error | None) -> None:
        """Tell what a question found, soon.

        Args:
            error: Why there was no answer; None if there was one.
        """
        problem = None if error is None else str(error)
        self._telling.tell(ServiceReport(self._name, self._now(), _reason(error), problem).dump())


def _reason(error: K2Error | None) -> str:
    return ANSWERS if error is None else _REASONS.get(outcome_of(error, Budget(1)), _OTHER)
