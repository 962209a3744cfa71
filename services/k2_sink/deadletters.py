"""Dead letters into Kafka: the original bytes, with headers that say where they stood and why.

They are durable before the commit whose state passes them. After a crash in between they are written again: a reader
tells copies by their position. Called by the sink's loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import client_config
from k2_core.topics import (
    DETAIL_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    TOPIC_HEADER,
    TOPIC_ID_HEADER,
    dead_letter_topic,
)
from k2_core.types import TopicId, TopicName
from k2_sink.batch import DeadLetter

FLUSH_TIMEOUT_S: Final = 30.0
"""Longer than a broker's fail-over; the batch that waits for it is kept and tried again."""

MAX_LETTER_BYTES: Final = 10_000_000
"""Larger than any broker's limit that is in use: the broker decides, not the client."""
MAX_DETAIL_CHARACTERS: Final = 1000
"""A detail may quote what it found; with this a letter is not much larger than the record, which the broker took."""

_log = logging.getLogger(__name__)


class DeadLetterProducer:
    """Writes dead letters and knows which are acknowledged.

    Args:
        settings: Where Kafka is.
        topic_ids: The id of each topic that they come from: a name may mean another log later.
    """

    def __init__(self, settings: ServiceSettings, topic_ids: Mapping[TopicName, TopicId]) -> None:
        self._topic_ids = topic_ids
        self._config = client_config(
            settings, enable_idempotence=True, acks="all", compression_type="lz4", message_max_bytes=MAX_LETTER_BYTES
        )
        self._producer: Producer | None = None
        self._failed: KafkaError | None = None
        self._unacknowledged: list[DeadLetter] = []

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Hand letters over; they are durable when `flush` has returned."""
        self._unacknowledged.extend(letters)

    def flush(self) -> None:
        """Return when every letter is acknowledged.

        Raises:
            KafkaUnavailableError: Some are not; all are kept and the same call may be made again.
        """
        if not self._unacknowledged:
            return
        if self._producer is None:
            self._producer = Producer(self._config, logger=_log)
        self._failed = None
        for letter in self._unacknowledged:
            self._produce(self._producer, letter)
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if left or self._failed is not None:
            self._producer.purge()
            self._producer = None  # the next attempt hands all of them over again, to a new one
            raise KafkaUnavailableError(f"dead letters: found {self._failed or f'{left} unacknowledged'}, expected all")
        self._unacknowledged = []

    def drop(self) -> None:
        """Forget letters of a batch that was dropped: whoever reads their records again writes them."""
        self._unacknowledged = []

    def _produce(self, producer: Producer, letter: DeadLetter) -> None:
        headers = {
            REASON_HEADER: letter.reason,
            DETAIL_HEADER: letter.detail[:MAX_DETAIL_CHARACTERS],
            TOPIC_HEADER: letter.topic,
            TOPIC_ID_HEADER: self._topic_ids[letter.topic],
            PARTITION_HEADER: str(letter.partition),
            OFFSET_HEADER: str(letter.offset),
        }
        while True:
            try:
                producer.produce(
                    dead_letter_topic(letter.topic),
                    value=letter.value,
                    key=f"{letter.topic}/{letter.partition}/{letter.offset}",
                    headers={name: value.encode() for name, value in headers.items()},
                    on_delivery=self._delivered,
                )
            except BufferError:  # the queue is full: let it drain
                producer.poll(0.1)
            else:
                return

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed = error
