"""Which pipelines are to be reconciled, each by one worker at a time, some of them later.

Filled by `handlers`, `watch` and `observe`, emptied by the workers of `main`. A pipeline that is woken a hundred times
while it waits is reconciled once; one that is woken while it is being reconciled is reconciled once more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from k2_operator.store import Key

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 60.0


class WorkQueue:
    """A set of keys with workers.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[Key, float] = {}
        self._running: dict[Key, float] = {}
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._ready = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, key: Key) -> None:
        """Have a pipeline reconciled as soon as a worker is free."""
        now_s = self._clock()
        if key in self._running:
            self._again.setdefault(key, now_s)
        elif key not in self._waiting:
            self._waiting[key] = now_s
            task = asyncio.get_running_loop().create_task(self._notify())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def wake_later(self, key: Key, delay_s: float) -> None:
        """Have it reconciled after a while, unless that is planned for an earlier time already."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and not timer.cancelled() and float(timer.when()) <= loop.time() + delay_s:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(delay_s, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.wake(key)

    async def _notify(self) -> None:
        async with self._ready:
            self._ready.notify()

    async def take(self) -> tuple[Key, float]:
        """Wait for a pipeline; return it and when it was woken. `done` or `failed` has to follow."""
        async with self._ready:
            await self._ready.wait_for(lambda: bool(self._waiting))
            key, woken_s = next(iter(self._waiting.items()))
            del self._waiting[key]
            self._running[key] = self._clock()
            return key, woken_s

    def done(self, key: Key) -> None:
        """Note that a pipeline was reconciled."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: Key) -> float:
        """Note that it was not, and plan the next attempt; return in how many seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(count, 16))
        self._finish(key)
        self.wake_later(key, delay_s)
        return delay_s

    def _finish(self, key: Key) -> None:
        self._running.pop(key, None)
        if self._again.pop(key, None) is not None:
            self.wake(key)

    def forget(self, key: Key) -> None:
        """Drop what is planned for a pipeline that is gone."""
        self._failures.pop(key, None)
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()

    def longest_running_s(self) -> float:
        """Return for how long the oldest reconcile has been going on; 0 without one."""
        return max((self._clock() - at_s for at_s in self._running.values()), default=0.0)

    def longest_waiting_s(self) -> float:
        """Return for how long the oldest waits for a worker; 0 without one."""
        return max((self._clock() - at_s for at_s in self._waiting.values()), default=0.0)
