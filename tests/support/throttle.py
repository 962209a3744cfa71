"""A process that runs for a share of the time only, as on a machine that is too small for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def throttled(send: Callable[[signal.Signals], None], runs_s: float, stands_s: float) -> Iterator[None]:
    """Stop a process and let it run in turns, until the end of the block.

    Args:
        send: Sends it a signal. Who is in place of a process that died is asked each time, so that its successor can be
            slow as well; where nobody is, it does nothing.
        runs_s: How long it runs each time, in seconds.
        stands_s: How long it stands still each time, in seconds.
    """
    over = threading.Event()

    def throttle() -> None:
        while not over.wait(runs_s):
            send(signal.SIGSTOP)
            over.wait(stands_s)
            send(signal.SIGCONT)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
