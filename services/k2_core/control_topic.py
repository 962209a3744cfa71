"""The control topic in Kafka: who writes to it, and the thread with which a service follows it.

A service that follows acts on a command within a second. A topic that is missing, unreadable or holds garbage changes
nothing: the level stays what it was, and `trouble` says so. What records mean is `k2_core.control`'s to say.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from k2_core.config import ServiceSettings
from k2_core.control import (
    CONTROL_TOPIC,
    Command,
    ControlView,
    Override,
    command_key,
    dump_memory,
    memory_key,
    override_key,
)
from k2_core.errors import KafkaUnavailableError, StateError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.types import Level, TopicName

CONTROL_CONFIG: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",  # small, and read as a whole at each start
    "segment.ms": "3600000",
}
METADATA_TIMEOUT_S: Final = 2.0
POLL_S: Final = 0.2
"""How soon a follower notices that it is to stop; records wake it at once."""
RETRY_S: Final = 1.0
READ_TIMEOUT_S: Final = 10.0
FLUSH_TIMEOUT_S: Final = 10.0

_log = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def control_producer(settings: ServiceSettings) -> Producer:
    """Return a producer as `ControlWriter` wants it."""
    config = client_config(settings, enable_idempotence=True, linger_ms=0, delivery_timeout_ms=10_000)
    return Producer(config, logger=_log)


class ControlWriter:
    """Writes what one pipeline's services are to do. Makes the topic if it is missing.

    Args:
        settings: Where Kafka is.
        pipeline: See `Pipeline.control_name`.
        topic: Another one in tests only.
        producer: One that others use too; None: one of its own.

    Raises:
        KafkaUnavailableError: No broker answered.
        SetupError: The topic may not be made.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        pipeline: str,
        topic: TopicName = CONTROL_TOPIC,
        producer: Producer | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._topic = topic
        KafkaAdmin(settings).ensure_topics({topic: 1}, CONTROL_CONFIG)
        self._producer = control_producer(settings) if producer is None else producer

    def command(self, command: Command) -> None:
        """Tell services what to do.

        Raises:
            KafkaUnavailableError: It was not acknowledged: services do what they were told before.
        """
        self._write(command_key(self._pipeline), command.dump())

    def override(self, override: Override) -> None:
        """Tell services what a person wants instead.

        Raises:
            KafkaUnavailableError: As `command`.
        """
        self._write(override_key(self._pipeline, override), override.dump())

    def memory(self, memory: Mapping[str, Any]) -> None:
        """Store what the controller must remember.

        Raises:
            KafkaUnavailableError: As `command`.
        """
        self._write(memory_key(self._pipeline), dump_memory(memory))

    def _write(self, key: bytes, value: bytes) -> None:
        failed: list[KafkaError] = []

        def done(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        self._producer.produce(self._topic, value, key, on_delivery=done)
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if failed or left:
            found = failed[0].str() if failed else f"no answer in {FLUSH_TIMEOUT_S:g} s"
            raise KafkaUnavailableError(f"control topic {self._topic}: found {found}, expected an acknowledgement")


class ControlReader:
    """Reads the topic of one pipeline's services, from its beginning on.

    Args:
        settings: Where Kafka is.
        pipeline: See `Pipeline.control_name`.
        topic: Another one in tests only.
    """

    def __init__(self, settings: ServiceSettings, pipeline: str, topic: TopicName = CONTROL_TOPIC) -> None:
        self.view = ControlView(pipeline)
        self.at_end = False
        """Whether everything was read that had been written when it was asked for."""
        self._unread: str | None = None
        self._unreadable: str | None = None
        self._topic = topic
        config = client_config(
            settings,
            group_id="k2-control",  # required by the client; nothing is ever committed under it
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
            fetch_wait_max_ms=100,
        )
        self._consumer = Consumer(config, logger=_log)
        self._assigned = False

    @property
    def trouble(self) -> str | None:
        """What was wrong with the last answer or record; None when all is well."""
        return self._unread or self._unreadable

    def _assign(self) -> None:
        """Begin at the beginning, once there is a topic: the client says nothing of one that is missing."""
        try:
            found = self._consumer.list_topics(self._topic, METADATA_TIMEOUT_S).topics[self._topic].error
        except KafkaException as error:
            found = error.args[0]
        if found is None:
            self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
            self._assigned = True
        else:
            self._not_read(found)

    def _not_read(self, fault: KafkaError) -> None:
        if self._unread is None:  # said once, however long it lasts
            _log.warning("control: not read, the level stays", extra={"topic": self._topic, "error": fault.str()})
        self._unread = f"control topic {self._topic}: found {fault.str()}, expected its records"

    def poll(self, timeout_s: float) -> None:
        """Take in what there is within a time; a moment longer while there is no topic."""
        if not self._assigned:
            self._assign()
        if not self._assigned:
            time.sleep(RETRY_S)
            return
        for message in self._consumer.consume(1_000, timeout_s):
            fault = message.error()
            if fault is None or fault.code() == KafkaError._PARTITION_EOF:
                self._unread = None
            if fault is None:
                self._take(message)
            elif fault.code() == KafkaError._PARTITION_EOF:
                self.at_end = True
            else:
                self._not_read(fault)
                self._assigned = False

    def _take(self, message: Message) -> None:
        try:
            self.view.take(message.key(), message.value())
        except StateError as error:
            self._unreadable = str(error)
            _log.warning("control: a record was passed over, the level stays", extra={"error": str(error)})
        else:
            self._unreadable = None

    def read_all(self, timeout_s: float = READ_TIMEOUT_S) -> ControlView:
        """Return what the topic says now.

        Raises:
            KafkaUnavailableError: It could not be read in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self.at_end:
            self.poll(POLL_S)
            if time.monotonic() > deadline_s:
                raise KafkaUnavailableError(self.trouble or f"control topic {self._topic}: not read in {timeout_s:g} s")
        return self.view

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


class ControlFollower:
    """The thread of a service that knows the present level.

    Args:
        settings: Where Kafka is.
        pipeline: See `Pipeline.control_name`.
        topic: Another one in tests only.
        now: UTC.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        pipeline: str,
        topic: TopicName = CONTROL_TOPIC,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._reader = ControlReader(settings, pipeline, topic)
        self._now = now
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def __enter__(self) -> ControlFollower:
        """Follow from now on."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and wait for the thread."""
        self._stop.set()
        self._thread.join()
        self._reader.close()

    def settle(self, timeout_s: float) -> bool:
        """Wait until it is known what was said before, or that it cannot be read; returns whether that was in time."""
        return self._settled.wait(timeout_s)

    def level(self) -> Level:
        """Return the level to take; NORMAL until somebody has said something."""
        return self._reader.view.level(self._now())

    def command(self) -> Command | None:
        """Return the controller's newest command."""
        return self._reader.view.command

    @property
    def trouble(self) -> str | None:
        """What keeps it from knowing; None when all is well."""
        return self._reader.trouble

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._reader.poll(POLL_S)
                if self._reader.at_end or self._reader.trouble is not None:
                    self._settled.set()
            except KafkaException as error:  # the level stays; the next poll tries again
                _log.warning("control: not read, the level stays", extra={"error": str(error)})
                self._stop.wait(RETRY_S)
