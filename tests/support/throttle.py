"""A process that runs for a share of the time only, as on a machine that is too small for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def throttled(pid: int, runs_s: float, stands_s: float) -> Iterator[None]:
    """Stop a process and let it run in turns, until the end of the block.

    Args:
        pid: Of the process; it must outlive the block.
        runs_s: How long it runs each time, in seconds.
        stands_s: How long it stands still each time, in seconds.
    """
    over = threading.Event()

    def throttle() -> None:
        while not over.wait(runs_s):
            os.kill(pid, signal.SIGSTOP)
            over.wait(stands_s)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
