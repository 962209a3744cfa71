"""Writes what a service says of itself to a group of Kafka that has no members; see `k2_core.service_report`.

It makes nobody wait: one write at a time is under way, in the client's own thread, and what comes meanwhile is left
out, as whoever tells does so again seconds later.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Final

from k2_core.kafka import KafkaAdmin
from k2_core.types import Offset, Partition, TopicName

_POSITION: Final = Offset(0)
"""Means nothing: it is the metadata beside it that is read."""

_log = logging.getLogger(__name__)


class GroupTelling:
    """Writes to one place of a group.

    Args:
        admin: Of the pipeline's Kafka.
        group: Without members.
        place: Of this service: two that share one take turns, and the newest of their words stands there.
        what: Is told, for people.
    """

    def __init__(self, admin: KafkaAdmin, group: str, place: tuple[TopicName, Partition], what: str) -> None:
        self._admin = admin
        self._group = group
        self._place = place
        self._what = what
        self._under_way: Future[object] | None = None
        self._failed = False

    def tell(self, text: str) -> bool:
        """Write a text, soon; returns whether it will be tried, as it is not while another is under way."""
        if self._under_way is not None and not self._under_way.done():
            return False
        self._under_way = self._admin.write_group_signals(self._group, {self._place: (_POSITION, text)})
        self._under_way.add_done_callback(self._done)
        return True

    def _done(self, written: Future[object]) -> None:
        error = written.exception()
        if error is not None and not self._failed:  # policy: `/health` says the same, and it is told again soon
            _log.warning("%s: not told to the operator", self._what, extra={"group": self._group, "error": str(error)})
        self._failed = error is not None
