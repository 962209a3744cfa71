"""What became of each symbol's trades: received, handed to Kafka, acknowledged by Kafka.

Owns the accounts that metrics and the exit code are read from. Written by `pipeline` (received), `producer` (produced)
and librdkafka's delivery reports (acknowledged, failed). Plain integers, as they change with every record; reports run
on the event loop's thread, inside `Producer.poll`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaError
from confluent_kafka.cimpl import Message


@dataclass(slots=True)
class Account:
    """One symbol's counts of trades."""

    received: int = 0
    produced: int = 0
    acknowledged: int = 0
    failed: int = 0

    @property
    def outstanding(self) -> int:
        """Handed to librdkafka, and not known to be in the log yet."""
        return self.produced - self.acknowledged - self.failed


class Delivery:
    """Takes the delivery reports of one batch of one symbol.

    Args:
        account: The symbol's account.
        count: Trades in the batch.
        received_ns: When the batch came from the socket, by the clock of `done`.
        done: Called with `received_ns` once the whole batch is in the log.
        failed: Called with the error when a trade will never be in the log.
    """

    __slots__ = ("_account", "_done", "_failed", "_left", "_received_ns")

    def __init__(
        self,
        account: Account,
        count: int,
        received_ns: int,
        done: Callable[[int], object],
        failed: Callable[[KafkaError], object],
    ) -> None:
        self._account = account
        self._left = count
        self._received_ns = received_ns
        self._done = done
        self._failed = failed

    def __call__(self, error: KafkaError | None, _message: Message) -> None:
        """Take one report."""
        if error is not None:
            self._account.failed += 1
            self._failed(error)
            return
        self._account.acknowledged += 1
        self._left -= 1
        if not self._left:
            self._done(self._received_ns)
