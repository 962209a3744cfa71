from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from k2_operator.store import Key
from k2_operator.workqueue import LONGEST_BACKOFF_S, WorkQueue

A, B = Key("ns", "a"), Key("ns", "b")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_key_that_waits_is_taken_once() -> None:
    async def work() -> None:
        clock = Clock()
        queue = WorkQueue(clock)
        queue.wake(A)
        clock.now_s += 5
        queue.wake(A)
        queue.wake(B)
        assert queue.longest_waiting_s() == 5
        assert await queue.take() == (A, 100.0)
        assert (await queue.take())[0] == B
        clock.now_s += 3
        assert queue.longest_running_s() == 3
        queue.done(A)
        queue.done(B)
        assert queue.longest_running_s() == queue.longest_waiting_s() == 0

    run(work())


def test_a_key_that_is_woken_while_it_runs_is_taken_again_afterwards() -> None:
    async def work() -> None:
        queue = WorkQueue()
        queue.wake(A)
        await queue.take()
        queue.wake(A)
        queue.wake(A)
        assert queue.longest_waiting_s() == 0
        queue.done(A)
        assert (await queue.take())[0] == A
        queue.done(A)
        assert queue.longest_waiting_s() == 0

    run(work())


def test_failures_come_back_later_and_later() -> None:
    async def work() -> None:
        queue = WorkQueue()
        queue.wake(A)
        delays: list[float] = []
        for _ in range(12):
            if not delays:
                await queue.take()
            delays.append(queue.failed(A))
        assert delays[:3] == [0.5, 1.0, 2.0]
        assert delays[-1] == LONGEST_BACKOFF_S
        assert (await queue.take())[0] == A  # the first delay holds: a later one does not put it off
        queue.done(A)
        queue.wake(A)
        await queue.take()
        assert queue.failed(A) == 0.5
        queue.forget(A)

    run(work())


def test_the_earliest_of_several_plans_holds() -> None:
    async def work() -> None:
        queue = WorkQueue()
        queue.wake_later(A, 30)
        queue.wake_later(A, 0.01)
        queue.wake_later(A, 60)
        assert (await queue.take())[0] == A

    run(work())
