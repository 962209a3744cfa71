"""What `k2 up` supervises, as units: a K2 service, and the local Kafka.

Called by `k2_cli.launch` (makes them) and `k2_cli.supervisor` (drives them).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.process import ManagedProcess
from k2_core.errors import SetupError


@dataclass(slots=True)
class ProcessUnit:
    """A service.

    It is sent SIGTERM once and only once: a second one means "at once" to servers, and kills an interpreter that is
    on its way out.
    """

    process: ManagedProcess
    _asked: bool = False

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
        self._asked = False
        self.process.start()

    def ask_to_stop(self) -> None:
        """See `supervisor.Unit`."""
        self._asked = True
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGCONT)  # a frozen process could not act on it

    def stop(self) -> int | None:
        """See `supervisor.Unit`."""
        if not self._asked:
            return self.process.stop()
        try:
            return self.process.wait(self.process.stop_timeout_s)
        except SetupError:  # it did not end in its time
            return self.process.kill()

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
        """See `supervisor.Unit`. It is alone in its stage, so that `stop` is soon enough."""

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
