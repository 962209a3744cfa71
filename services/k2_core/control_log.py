"""Reads the control topic as a whole, once for any number of pipelines: one consumer, one view each.

Threads share it: one of them takes records in, for all. Behind `k2_core.control_topic.ControlReader`, which is one
pipeline's; the operator keeps one of these per Kafka. What records mean is `k2_core.control`'s to say.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from k2_core.config import ServiceSettings
from k2_core.control import COMMAND, CONTROL_TOPIC, ControlView, named
from k2_core.errors import KafkaUnavailableError, StateError
from k2_core.kafka import client_config
from k2_core.types import TopicName

METADATA_TIMEOUT_S: Final = 2.0
POLL_S: Final = 0.2
"""How soon a follower notices that it is to stop; records wake it at once."""
RETRY_S: Final = 1.0
CHECK_AFTER_S: Final = 3.0
"""Of silence until Kafka is asked whether the topic is still there: the client says nothing of one that was deleted."""
AT_ONCE: Final = 1_000

_log = logging.getLogger(__name__)


class ControlLog:
    """Reads the topic from its beginning on.

    Args:
        settings: Where Kafka is.
        topic: Another one in tests only.
        only: The one pipeline to keep something of; None: of all.
    """

    def __init__(self, settings: ServiceSettings, topic: TopicName = CONTROL_TOPIC, only: str | None = None) -> None:
        self.at_end = False
        """Whether everything was read that stood there when reading began."""
        self._only = only
        self._topic = topic
        self._views: dict[str, ControlView] = {}
        self._unreadable: dict[str, dict[str, str]] = {}
        self._unread: str | None = None
        self._missing = False
        self._stands: set[str] = set()
        self._all_read = False
        config = client_config(
            settings,
            group_id="k2-control",  # required by the client; nothing is ever committed under it
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            auto_offset_reset="error",  # a topic that was made anew is read as one, and not as if it went on
            fetch_wait_max_ms=100,
            queued_max_messages_kbytes=4 * 1024,  # of a reader that nobody asks for a while
        )
        self._consumer = Consumer(config, logger=_log)
        self._reading = threading.Lock()
        self._assigned = False
        self._assign_at_s = time.monotonic()
        self._check_at_s = self._assign_at_s
        self._position = 0

    def view(self, pipeline: str) -> ControlView:
        """Return what was read of a pipeline so far; it goes on to follow what is read."""
        return self._views.setdefault(pipeline, ControlView(pipeline))

    def trouble(self, pipeline: str) -> str | None:
        """Return what was wrong with the last answer, or is with a pipeline's records; None when all is well.

        A record that was passed over is told of until a good one of its kind follows.
        """
        return self._unread or next(iter(self._unreadable.get(pipeline, {}).values()), None)

    @property
    def missing(self) -> bool:
        """Whether Kafka said at the last look that there is no such topic."""
        return self._missing

    def lost(self, pipeline: str) -> bool:
        """Return whether a command that was read is in the topic no more: who starts now would not know it.

        The topic was deleted and made again, or something else took the command's place.
        """
        known = (view := self._views.get(pipeline)) is not None and view.command is not None
        return known and self._all_read and pipeline not in self._stands

    def look_again(self) -> None:
        """Ask at the next poll whether the topic is there, as it was made again; until then it counts as missing."""
        self._assign_at_s = time.monotonic()

    def poll(self, timeout_s: float) -> None:
        """Take in what there is within a time; nothing if another thread does so already and goes on for longer."""
        began_s = time.monotonic()
        if not self._reading.acquire(timeout=timeout_s):
            return
        try:
            self._poll(max(0.0, timeout_s - (time.monotonic() - began_s)))
        finally:
            self._reading.release()

    def _poll(self, timeout_s: float) -> None:
        if not self._assigned:
            # Asked only now and then: a topic that is missing may stay so for long.
            time.sleep(min(timeout_s, max(0.0, self._assign_at_s - time.monotonic())))
            if time.monotonic() >= self._assign_at_s:
                self._assign()
            if not self._assigned:
                return
        messages = self._consumer.consume(AT_ONCE, timeout_s)
        for message in messages:
            fault = message.error()
            if fault is None:
                self._unread = None
                self._take(message)
                self._position = (message.offset() or 0) + 1
            elif fault.code() == KafkaError._PARTITION_EOF:
                self._unread, self.at_end, self._all_read = None, True, True
                self._position = message.offset() or 0
            else:
                self._not_read(fault)
                self._begin_anew()
                break  # what is left was read by the position that is no more
        if messages:
            self._check_at_s = time.monotonic() + CHECK_AFTER_S
        elif time.monotonic() >= self._check_at_s:
            self._check()

    def _assign(self) -> None:
        """Begin at the beginning, once there is a topic: the client says nothing of one that is missing."""
        if (found := self._fault()) is None:
            self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
            self._assigned, self._check_at_s = True, time.monotonic() + CHECK_AFTER_S
        else:
            self._not_read(found)
            self._assign_at_s = time.monotonic() + RETRY_S

    def _check(self) -> None:
        """Look whether the topic that is read is still there: one that was made anew meanwhile is read as a whole."""
        self._check_at_s = time.monotonic() + CHECK_AFTER_S
        if (found := self._fault()) is not None:
            self._not_read(found)
            if self._missing:
                self._begin_anew()
            return
        self._unread = None
        end, _ = self._end()
        if end is not None and end < self._position:
            self._begin_anew()

    def _fault(self) -> KafkaError | None:
        """Return why the topic cannot be read, as far as Kafka says; None if it can."""
        found: KafkaError | None
        try:
            found = self._consumer.list_topics(self._topic, METADATA_TIMEOUT_S).topics[self._topic].error
        except KafkaException as error:
            found = error.args[0]
            return found
        self._missing = found is not None and found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        return found

    def _begin_anew(self) -> None:
        """Read all again: nothing is known of what stands there; what was understood before stays in force."""
        self._consumer.unassign()
        self._assigned, self._position, self._all_read = False, 0, False
        self._assign_at_s = time.monotonic() + RETRY_S
        self._stands.clear()
        self._unreadable.clear()

    def _not_read(self, fault: KafkaError) -> None:
        if self._unread is None:  # said once, however long it lasts
            _log.warning("control: not read, the level stays", extra={"topic": self._topic, "error": fault.str()})
        self._unread = self._said(fault)

    def _said(self, fault: KafkaError) -> str:
        return f"control topic {self._topic}: found {fault.str()}, expected its records"

    def _take(self, message: Message) -> None:
        key = message.key()
        if key is None or (pipeline := named(key)) != (self._only or pipeline):
            return
        view, unreadable = self.view(pipeline), self._unreadable.setdefault(pipeline, {})
        kind, value = view.kind(key) or "", message.value()
        try:
            view.take(key, value)
        except StateError as error:
            unreadable[kind] = str(error)
            _log.warning("control: a record was passed over, the level stays", extra={"error": str(error)})
        else:
            unreadable.pop(kind, None)
        if kind == COMMAND:
            stands = value is not None and kind not in unreadable
            (self._stands.add if stands else self._stands.discard)(pipeline)

    def catch_up(self, timeout_s: float) -> None:
        """Return once everything is read that stands in the topic now, however long others have been reading it.

        Raises:
            KafkaUnavailableError: That took too long.
        """
        deadline_s = time.monotonic() + timeout_s
        end, problem = self._end()
        while end is None or self._position < end:
            if time.monotonic() > deadline_s:
                expected = f"control topic {self._topic}: not read in {timeout_s:g} s"
                raise KafkaUnavailableError(self._unread or problem or expected)
            self.poll(POLL_S)
            if end is None:
                end, problem = self._end()

    def _end(self) -> tuple[int | None, str | None]:
        """Return where the topic ends, or None and why that is not known."""
        try:
            bounds = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), METADATA_TIMEOUT_S)
        except KafkaException as error:
            return None, self._said(error.args[0])
        return bounds[1], None

    def close(self) -> None:
        """Leave Kafka."""
        with self._reading:
            self._consumer.close()
