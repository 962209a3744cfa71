"""What `k2 up` supervises, as units: a K2 service, and the local Kafka.

Called by `k2_cli.launch` (makes them) and `k2_cli.supervisor` (drives them).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.process import ManagedProcess


@dataclass(frozen=True, slots=True)
class ProcessUnit:
    """A service."""

    process: ManagedProcess

    @property
    def running(self) -> bool:
        """See `supervisor.Unit`."""
        return self.process.running

    @property
    def returncode(self) -> int | None:
        """See `supervisor.Unit`."""
        return self.process.returncode

    def start(self) -> None:
        """See `supervisor.Unit`."""
        self.process.start()

    def ask_to_stop(self) -> None:
        """See `supervisor.Unit`."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int | None:
        """See `supervisor.Unit`."""
        return self.process.stop()

    def kill(self) -> None:
        """See `supervisor.Unit`."""
        if self.process.running:
            self.process.kill()

    def log_tail(self, lines: int = 5) -> str:
        """See `supervisor.Unit`."""
        return self.process.log_tail(lines)


@dataclass(frozen=True, slots=True)
class KafkaUnit:
    """The local Kafka, with its lock and its port."""

    kafka: LocalKafka

    @property
    def running(self) -> bool:
        """See `supervisor.Unit`."""
        return self.kafka.running

    @property
    def returncode(self) -> int | None:
        """See `supervisor.Unit`."""
        return self.kafka.process.returncode

    def start(self) -> None:
        """See `supervisor.Unit`. Returns when it serves."""
        self.kafka.start()

    def ask_to_stop(self) -> None:
        """See `supervisor.Unit`."""
        self.kafka.process.send_signal(signal.SIGTERM)

    def stop(self) -> int | None:
        """See `supervisor.Unit`."""
        self.kafka.stop()
        return self.kafka.process.returncode

    def kill(self) -> None:
        """See `supervisor.Unit`."""
        if self.kafka.running:
            self.kafka.process.kill()
        self.kafka.stop()

    def log_tail(self, lines: int = 5) -> str:
        """See `supervisor.Unit`."""
        return self.kafka.process.log_tail(lines)
