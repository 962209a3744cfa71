"""The Kafkas that pipelines name, each with its login: clients for all who ask, who may ask now, and how it fares.

Shared by `observe` and `controllers`. One that does not answer is asked less and less often, whoever asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from k2_core.config import ServiceSettings
from k2_core.control_log import ControlLog
from k2_core.control_topic import control_producer
from k2_core.controller.look import RecordAges
from k2_core.spec import KafkaSpec
from k2_operator.topics import Topics, kafka_settings

AT_ONCE: Final = 4
"""Looks at one Kafka at the same time, and as many turns of controllers beside them."""
FIRST_BACKOFF_S: Final = 2.0
LONGEST_BACKOFF_S: Final = 60.0
IDLE_S: Final = 600.0


def _gate() -> asyncio.Semaphore:
    return asyncio.Semaphore(AT_ONCE)


@dataclass(eq=False)
class Kafka:
    """One Kafka with one login.

    Args:
        settings: Of clients.
        topics: The client that is shared.
        used_s: When it was last asked.
        looks: Taken by a look.
        turns: Taken by a controller's turn, which lasts longer.
        problem: Why it did not answer; None if it did, or was never asked.
        closed_until_s: Until when it is not asked.
        backoff_s: For how long it is not asked after the next failure.
    """

    settings: ServiceSettings
    topics: Topics
    used_s: float
    looks: asyncio.Semaphore = field(default_factory=_gate)
    turns: asyncio.Semaphore = field(default_factory=_gate)
    problem: str | None = None
    closed_until_s: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _producer: Producer | None = None
    _control: ControlLog | None = None
    _ages: dict[int, RecordAges] = field(default_factory=dict)

    def producer(self) -> Producer:
        """Return the producer that all controllers share: each client has threads and memory of its own."""
        with self._lock:
            if self._producer is None:
                self._producer = control_producer(self.settings)
            return self._producer

    def control(self) -> ControlLog:
        """Return what knows the control topic for all controllers."""
        with self._lock:
            if self._control is None:
                self._control = ControlLog(self.settings)
            return self._control

    def ages(self, name: str) -> RecordAges:
        """Return what a controller of that name reads ages with: one of as many as there are turns at once."""
        with self._lock:
            number = zlib.crc32(name.encode()) % AT_ONCE
            if number not in self._ages:
                self._ages[number] = RecordAges(self.settings)
            return self._ages[number]

    def answered(self, problem: str | None, now_s: float) -> None:
        """Note what came of asking."""
        self.used_s, self.problem = now_s, problem
        if problem is None:
            self.backoff_s = FIRST_BACKOFF_S
        else:
            self.closed_until_s = now_s + self.backoff_s
            self.backoff_s = min(LONGEST_BACKOFF_S, 2 * self.backoff_s)


class Kafkas:
    """Those that are in use.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, Kafka] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def of(self, kafka: KafkaSpec, values: Mapping[str, bytes]) -> Kafka:
        """Return a Kafka with these credentials; those that nobody has asked for long are dropped.

        Args:
            kafka: Where it is.
            values: Of the secrets that a pipeline refers to, by field.
        """
        own = {where: value for where, value in values.items() if where.startswith("spec.kafka.")}
        text = kafka.model_dump_json() + repr(sorted(own.items()))
        name = hashlib.sha256(text.encode()).hexdigest()
        now_s = self._clock()
        self._known = {at: one for at, one in self._known.items() if at == name or now_s - one.used_s < IDLE_S}
        if name not in self._known:
            settings = kafka_settings(kafka, own, self._ca_file(name, own.get("spec.kafka.tls.caSecret")))
            self._known[name] = Kafka(settings, Topics(settings), now_s)
        return self._known[name]

    def _ca_file(self, name: str, content: bytes | None) -> Path | None:
        if content is None:
            return None
        # Only then: an operator that is killed leaves its folder behind.
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="k2-operator-")
        file = Path(self._folder.name) / f"{name}.pem"
        file.write_bytes(content)
        return file

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()
