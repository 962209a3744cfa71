from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from starlette.requests import Request
from starlette.types import Message

from k2_core.errors import RetryableError
from k2_query import runner as module
from k2_query.budget import Budget
from k2_query.runner import OverloadedError, Runner


def request_of(messages: Iterator[Message]) -> Request:
    async def receive() -> Message:
        for message in messages:
            return message
        await asyncio.sleep(60)
        raise AssertionError("asked again")

    return Request({"type": "http", "method": "GET", "path": "/", "headers": []}, receive)


def waiting(request_ends: threading.Event, seen: list[str]) -> Callable[[Budget], str]:
    """A query that ends only when it is cancelled."""

    def query(budget: Budget) -> str:
        while True:
            try:
                budget.check()
            except RetryableError as error:
                seen.append(str(error))
                request_ends.set()
                raise
            request_ends.wait(0.005)

    return query


def test_a_result_comes_back() -> None:
    async def ask() -> int:
        return await runner.run(request_of(iter([])), lambda budget: int(budget.remaining_s > 40))

    with closing(Runner(1, timeout_s=60)) as runner:
        assert asyncio.run(ask()) == 1


def test_an_error_comes_back_too() -> None:
    def fail(_: Budget) -> int:
        raise ZeroDivisionError

    with closing(Runner(1, timeout_s=60)) as runner, pytest.raises(ZeroDivisionError):
        asyncio.run(runner.run(request_of(iter([])), fail))


@pytest.mark.parametrize(
    ("messages", "timeout_s", "reason"),
    [
        ([{"type": "http.request", "body": b""}], 0.05, "found no end after 0.05 s"),
        ([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}], 30, "found its client gone"),
    ],
    ids=["time-out", "client-gone"],
)
def test_a_query_is_stopped(messages: list[Message], timeout_s: float, reason: str) -> None:
    seen: list[str] = []
    query = waiting(threading.Event(), seen)
    with closing(Runner(1, timeout_s)) as runner, pytest.raises(RetryableError, match=reason):
        asyncio.run(runner.run(request_of(iter(messages)), query))
    assert len(seen) == 1
    assert reason in seen[0], "the query was told, it did not just run out of time"


def test_one_that_does_not_listen_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CANCEL_TRIES", 2)
    release = threading.Event()
    with closing(Runner(1, timeout_s=0.02)) as runner:
        with pytest.raises(RetryableError, match="found no end"):
            asyncio.run(runner.run(request_of(iter([])), lambda _: release.wait(20)))
        release.set()


def test_more_than_the_places_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    release = threading.Event()

    async def ask() -> None:
        both = [asyncio.create_task(runner.run(request_of(iter([])), lambda _: release.wait(20))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await runner.run(request_of(iter([])), lambda _: None)
        release.set()
        assert await asyncio.gather(*both) == [True, True]
        assert await runner.run(request_of(iter([])), lambda _: 7) == 7

    with closing(Runner(1, timeout_s=20)) as runner:
        asyncio.run(ask())
