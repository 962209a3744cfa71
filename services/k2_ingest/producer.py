"""Values into Kafka: idempotent, acknowledged by all replicas, in order, never dropped.

Owns librdkafka's producer, its bounds and its outages. Called by `pipeline` (produce, dead letter) and `service` (poll,
flush). When the queue is fuller than its bound it says so and the caller stops reading its socket; while no broker
answers librdkafka retries without end: nothing is lost as long as the process lives, and one line says that it waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.cimpl import Message

from k2_core.config import ServiceSettings
from k2_core.errors import KafkaUnavailableError, RecordError
from k2_core.kafka import client_config
from k2_core.topics import DETAIL_HEADER, REASON_HEADER, SOURCE_HEADER, dead_letter_topic, partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest.deliveries import Account, Delivery

log = logging.getLogger(__name__)

LINGER_MS: Final = 5  # a batch fills in less at speed; at leisure it is the price of fewer requests
BATCH_BYTES: Final = 1024 * 1024  # Kafka's own default limit for a request's batch
RESUME_AT: Final = 0.5  # of the queue's bound: late enough not to flap, early enough not to idle
_FULL_POLL_S: Final = 0.05
_NO_BROKER: Final = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE})
_DETAIL_BYTES: Final = 1_000

Headers: TypeAlias = list[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where trades go.

    Args:
        topic: The topic.
        partitions: Its partitions; fixed for the life of the process, as a symbol must stay where it is.
        source: Name of the ingestion source, for dead letters.
    """

    topic: TopicName
    partitions: int
    source: str


class TradeProducer:
    """Sends encoded trades and dead letters.

    Args:
        settings: How to reach Kafka.
        destination: Where to.
        queue_records: Records that may wait for their acknowledgement before `full` says stop.
        on_acknowledged: Called with the receive time of each batch that is in the log, in the order of the log.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        destination: Destination,
        queue_records: int,
        on_acknowledged: Callable[[int], object],
    ) -> None:
        self.accounts: dict[Symbol, Account] = {}
        self.dead_letters = Account()
        self.broker_gone = False
        self._fatal: KafkaError | None = None
        self._destination = destination
        self._dead_letter_topic = dead_letter_topic(destination.topic)
        self._queue_records = queue_records
        self._on_acknowledged = on_acknowledged
        self._partitions: dict[Symbol, int] = {}
        self._producer = Producer(self._config(settings), logger=log)

    def _config(self, settings: ServiceSettings) -> dict[str, Any]:
        return client_config(settings) | {
            "enable.idempotence": True,  # implies acks=all, order kept over retries
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "message.timeout.ms": 0,  # never give up: what is accepted is delivered, however long Kafka is away
            # Twice the bound, as one turn of the event loop may overshoot it before the socket is paused.
            "queue.buffering.max.messages": 2 * self._queue_records,
            "queue.buffering.max.kbytes": 1024 * 1024,
            "error_cb": self._on_error,
        }

    @property
    def unacknowledged(self) -> int:
        """Records that are not known to be in the log; those that never will be count too."""
        accounts = (*self.accounts.values(), self.dead_letters)
        return sum(account.produced - account.acknowledged for account in accounts)

    @property
    def full(self) -> bool:
        """Whether the caller has to stop reading its socket."""
        # librdkafka's own count: it has reports that nobody has taken yet in it, which is on the safe side, and it
        # costs the same for one symbol as for a thousand.
        return len(self._producer) >= self._queue_records

    @property
    def drained(self) -> bool:
        """Whether the caller may read again."""
        return len(self._producer) <= RESUME_AT * self._queue_records

    def account(self, symbol: Symbol) -> Account:
        """The symbol's account, made when it is new."""
        account = self.accounts.get(symbol)
        if account is None:
            account = self.accounts[symbol] = Account()
            self._partitions[symbol] = partition_of(symbol, self._destination.partitions)
        return account

    def produce(self, symbol: Symbol, values: Sequence[bytes], received_ns: int) -> None:
        """Hand over values of one symbol, in their order. Waits only if librdkafka's queue is full altogether.

        Raises:
            KafkaUnavailableError: A value can never be produced (too long, no such partition).
        """
        account = self.account(symbol)
        key = symbol.encode()
        delivery = Delivery(account, len(values), received_ns, self._on_batch_acknowledged, self._on_failed)
        topic, partition = self._destination.topic, self._partitions[symbol]
        waiting: list[dict[str, Any]] = [{"value": value, "key": key} for value in values]
        while True:
            accepted = self._producer.produce_batch(topic, waiting, partition=partition, on_delivery=delivery)
            account.produced += accepted
            if accepted == len(waiting):
                return
            refused = [message for message in waiting if message.get("_error") is not None]
            for message in refused:
                if message["_error"].code() != KafkaError._QUEUE_FULL:
                    raise _unproducible(message["_error"])
            # A full queue refuses the end of the batch: the order is kept.
            waiting = [{"value": message["value"], "key": key} for message in refused]
            self._producer.poll(_FULL_POLL_S)

    def dead_letter(
        self, payload: bytes, problem: RecordError, received_ns: int, where: Mapping[str, str] | None = None
    ) -> None:
        """Keep what could not become a record: the original bytes, why, from where and when.

        Args:
            payload: The message as it came.
            problem: Why it is no record.
            received_ns: UTC nanoseconds; becomes the dead letter's timestamp.
            where: Headers that say more of where it came from.

        Raises:
            KafkaUnavailableError: It can never be produced.
        """
        headers: Headers = [
            (REASON_HEADER, problem.reason.encode()),
            (DETAIL_HEADER, problem.detail.encode()[:_DETAIL_BYTES]),
            (SOURCE_HEADER, self._destination.source.encode()),
            *((name, text.encode()) for name, text in (where or {}).items()),
        ]
        while not self._try_dead_letter(payload, headers, received_ns // 1_000_000):
            self._producer.poll(_FULL_POLL_S)
        self.dead_letters.produced += 1

    def _try_dead_letter(self, payload: bytes, headers: Headers, time_ms: int) -> bool:
        """False when the queue is full."""
        topic, report = self._dead_letter_topic, self._on_dead_letter
        try:
            self._producer.produce(topic, payload, headers=headers, timestamp=time_ms, on_delivery=report)
        except BufferError:
            return False
        except KafkaException as error:
            raise _unproducible(error.args[0]) from error
        return True

    def poll(self) -> None:
        """Take the delivery reports that have come; to be called often.

        Raises:
            KafkaUnavailableError: A record will never be acknowledged: going on would lose it silently.
        """
        self._producer.poll(0)
        if self._fatal is not None:
            raise KafkaUnavailableError(f"found {self._fatal.str()}, expected every record to be acknowledged")

    def flush(self, timeout_s: float) -> int:
        """Wait until all records are acknowledged, at most this long; returns how many are not."""
        self._producer.flush(timeout_s)
        return self.unacknowledged

    def close(self) -> None:
        """Let go of Kafka; what is still queued is abandoned, so `flush` comes first."""
        self._producer.purge()
        self._producer.close()

    def _on_batch_acknowledged(self, received_ns: int) -> None:
        if self.broker_gone:
            self.broker_gone = False
            log.info("kafka answers again", extra={"unacknowledged": self.unacknowledged})
        self._on_acknowledged(received_ns)

    def _on_dead_letter(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self.dead_letters.failed += 1
            self._on_failed(error)
            return
        self.dead_letters.acknowledged += 1

    def _on_failed(self, error: KafkaError) -> None:
        self._fatal = self._fatal or error

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_failed(error)
        elif error.code() in _NO_BROKER and not self.broker_gone:
            self.broker_gone = True
            log.error(
                "no kafka broker answers: keeping records and retrying",
                extra={"error": error.str(), "unacknowledged": self.unacknowledged, "queue_limit": self._queue_records},
            )


def _unproducible(error: KafkaError) -> KafkaUnavailableError:
    return KafkaUnavailableError(f"found {error.str()}, expected kafka's client to take every record")
