"""The loop alone, on a clock that runs: who is due is served, nobody twice at once, and it ends when it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from k2_operator.rounds import Rounds, Subject
from k2_operator.store import Key
from support.api_server import until

A, B = Key("ns", "a"), Key("ns", "b")
NEVER = float("inf")


class Served:
    """What was done, and a gate that holds it."""

    def __init__(self) -> None:
        self.began: list[Key] = []
        self.ended: list[Key] = []
        self.again_s = NEVER
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.rounds = Rounds[Subject](self.serve, lambda: 60.0, time.monotonic)

    async def serve(self, key: Key, subject: Subject) -> None:
        self.began.append(key)
        subject.due_s = time.monotonic() + self.again_s
        await self.go_on.wait()
        self.ended.append(key)
        self.rounds.done(subject)


def going_round(scenario: Callable[[Served], Awaitable[None]]) -> None:
    async def run() -> None:
        served = Served()
        task = asyncio.get_running_loop().create_task(served.rounds.run())
        try:
            async with asyncio.timeout(20):
                await scenario(served)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            served.rounds.close()

    asyncio.run(run())


def test_each_is_served_when_it_is_due() -> None:
    async def scenario(served: Served) -> None:
        served.rounds.subjects |= {A: Subject(0.0), B: Subject(NEVER)}
        served.rounds.hurry(served.rounds.subjects[A])
        await until(lambda: served.ended == [A])
        served.rounds.hurry(served.rounds.subjects[B])
        await until(lambda: served.ended == [A, B])

    going_round(scenario)


def test_again_and_again_without_a_word() -> None:
    async def scenario(served: Served) -> None:
        served.again_s = 0.0
        served.rounds.subjects[A] = Subject(0.0)
        served.rounds.hurry(served.rounds.subjects[A])
        await until(lambda: len(served.ended) > 3)

    going_round(scenario)


def test_nobody_is_served_twice_at_once_and_who_hurries_meanwhile_comes_next() -> None:
    async def scenario(served: Served) -> None:
        served.go_on.clear()
        served.rounds.subjects |= {A: Subject(0.0), B: Subject(0.0)}
        served.rounds.hurry(served.rounds.subjects[A])
        await until(lambda: served.began == [A, B])
        served.rounds.hurry(served.rounds.subjects[A])
        await asyncio.sleep(0.1)  # long enough for it to have begun
        assert served.began == [A, B]
        served.go_on.set()
        await until(lambda: served.began == [A, B, A])

    going_round(scenario)


def test_what_is_under_way_is_cancelled_at_the_end() -> None:
    async def scenario(served: Served) -> None:
        served.go_on.clear()
        served.rounds.subjects[A] = Subject(0.0)
        served.rounds.hurry(served.rounds.subjects[A])
        await until(lambda: served.began)
        [task] = served.rounds._tasks
        served.rounds.close()
        await until(task.cancelled)
        assert served.ended == []

    going_round(scenario)
