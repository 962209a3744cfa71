"""Ctrl-C, SIGTERM and a closed terminal, as `k2 up` takes them.

While starting, a signal interrupts what is going on. While running, the first one asks for the ordered stop and nothing
else. While stopping, another one interrupts that, which kills. Called by `k2_cli.up` in the main thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What was asked for by signals.

    Attributes:
        asked: Set once somebody asked to stop while `patient` was on.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._patient = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signals over, and give them back."""
        before: dict[signal.Signals, Any] = {number: signal.signal(number, self._take) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Inside, the first signal only sets `asked`; outside, each raises KeyboardInterrupt."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._patient and not self.asked.is_set():
            self.asked.set()
        else:
            raise KeyboardInterrupt
