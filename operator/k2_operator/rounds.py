"""The loop of those who do something for each pipeline again and again: each when it is due, never two at once for one.

Shared by `observe` and `controllers`, which say what is done and when it is due next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from k2_operator.store import Key

SHORTEST_WAIT_S: Final = 0.02


@dataclass
class Subject:
    """What is known of one pipeline.

    Args:
        due_s: When something is done for it next, on the monotonic clock.
        busy: Whether something is being done.
    """

    due_s: float
    busy: bool = False


Known = TypeVar("Known", bound=Subject)


class Rounds(Generic[Known]):
    """The loop, and its subjects.

    Args:
        work: Does what is due for one; it says when it is due again, and ends by `done`.
        idle_s: How long to wait where nothing is due, at most.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        work: Callable[[Key, Known], Coroutine[Any, Any, None]],
        idle_s: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.subjects: dict[Key, Known] = {}
        self._work = work
        self._idle_s = idle_s
        self._clock = clock
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def hurry(self, subject: Known) -> None:
        """Have something done for one at once, or once what is being done is over."""
        subject.due_s = self._clock()
        self._wake.set()

    def done(self, subject: Known) -> None:
        """Note that nothing is being done any more for one."""
        subject.busy = False
        self._wake.set()

    async def run(self) -> None:
        """Go round for ever."""
        while True:
            self._start_due()
            self._wake.clear()
            # Not wait_for: before Python 3.12 it swallows a cancellation that meets a wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._wake.wait()

    def close(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()

    def _until_next(self) -> float:
        due = [subject.due_s for subject in self.subjects.values() if not subject.busy]
        return max(SHORTEST_WAIT_S, min(due, default=self._clock() + self._idle_s()) - self._clock())

    def _start_due(self) -> None:
        now_s = self._clock()
        for key, subject in self.subjects.items():
            if not subject.busy and subject.due_s <= now_s:
                subject.busy = True
                task = asyncio.get_running_loop().create_task(self._work(key, subject))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
