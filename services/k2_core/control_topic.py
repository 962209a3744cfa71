"""The control topic in Kafka for one pipeline: who writes to it, and the thread with which a service follows it.

A service that follows acts on a command within a second. A topic that is missing, unreadable or holds garbage changes
nothing: the level stays what it was, and `trouble` says so. It is read by `k2_core.control_log`; what records mean is
`k2_core.control`'s to say.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2_core.clock import utc_now
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
from k2_core.control_log import METADATA_TIMEOUT_S, POLL_S, RETRY_S, ControlLog
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import KafkaAdmin, client_config
from k2_core.types import Level, TopicName

CONTROL_CONFIG: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",  # small, and read as a whole at each start
    "segment.ms": "3600000",
}
READ_TIMEOUT_S: Final = 10.0
FLUSH_TIMEOUT_S: Final = 10.0

_log = logging.getLogger(__name__)


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
        admin: The same.

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
        admin: KafkaAdmin | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._topic = topic
        self._admin = KafkaAdmin(settings) if admin is None else admin
        self._admin.ensure_topics({topic: 1}, CONTROL_CONFIG)
        self._producer = control_producer(settings) if producer is None else producer

    def make_again(self) -> None:
        """Make the topic that somebody has deleted.

        Raises:
            KafkaUnavailableError: No broker answered.
            SetupError: The topic may not be made.
        """
        self._admin.ensure_topics({self._topic: 1}, CONTROL_CONFIG)
        try:
            self._producer.list_topics(self._topic, METADATA_TIMEOUT_S)  # else it goes on to refuse what it is given
        except KafkaException as error:
            raise KafkaUnavailableError(f"control topic {self._topic}: found {error}, expected an answer") from error

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

        try:
            self._producer.produce(self._topic, value, key, on_delivery=done)
        except (KafkaException, BufferError) as error:  # at once, where the client knows that there is no such topic
            raise KafkaUnavailableError(f"control topic {self._topic}: found {error}, expected to be taken") from error
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if failed or left:
            found = failed[0].str() if failed else f"no answer in {FLUSH_TIMEOUT_S:g} s"
            raise KafkaUnavailableError(f"control topic {self._topic}: found {found}, expected an acknowledgement")


class ControlReader:
    """Reads what one pipeline's services are told, from the topic's beginning on.

    Args:
        settings: Where Kafka is.
        pipeline: See `Pipeline.control_name`.
        topic: Another one in tests only.
        log: A reader of the whole topic that others use too; None: one of its own, which keeps nothing of others.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        pipeline: str,
        topic: TopicName = CONTROL_TOPIC,
        log: ControlLog | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._own = log is None
        self._log = ControlLog(settings, topic, only=pipeline) if log is None else log

    @property
    def view(self) -> ControlView:
        """What was read so far."""
        return self._log.view(self._pipeline)

    @property
    def at_end(self) -> bool:
        """Whether everything was read that stood there when reading began."""
        return self._log.at_end

    @property
    def trouble(self) -> str | None:
        """What was wrong with the last answer or record; None when all is well."""
        return self._log.trouble(self._pipeline)

    @property
    def missing(self) -> bool:
        """Whether there is no such topic."""
        return self._log.missing

    @property
    def lost(self) -> bool:
        """Whether the command that was read last is in the topic no more."""
        return self._log.lost(self._pipeline)

    def look_again(self) -> None:
        """Ask at the next poll whether the topic is there, as it was made again; until then it counts as missing."""
        self._log.look_again()

    def poll(self, timeout_s: float) -> None:
        """Take in what there is within a time."""
        self._log.poll(timeout_s)

    def read_all(self, timeout_s: float = READ_TIMEOUT_S) -> ControlView:
        """Return what the topic says now.

        Raises:
            KafkaUnavailableError: It could not be read in time.
        """
        self._log.catch_up(timeout_s)
        return self.view

    def close(self) -> None:
        """Leave Kafka, unless others go on reading."""
        if self._own:
            self._log.close()


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
        now: Callable[[], datetime] = utc_now,
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
