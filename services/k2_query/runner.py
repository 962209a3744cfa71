"""Runs a query in a worker's thread for a request: at most so many, so long, and no longer than its client waits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from starlette.requests import Request

from k2_core.errors import RetryableError
from k2_query.budget import Budget

MAX_WAITING: Final = 64
"""Requests beyond the workers that may wait: at 20 ms a query, more would not be answered in time anyway."""
_CANCEL_EVERY_S: Final = 0.05
_CANCEL_TRIES: Final = 40

Result = TypeVar("Result")


class OverloadedError(RetryableError):
    """All workers are busy and enough requests wait already."""


class Runner:
    """A bounded pool of workers.

    Args:
        workers: Queries at once.
        timeout_s: Of one query, waiting included.
    """

    def __init__(self, workers: int, timeout_s: float) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="query")
        self._places = workers + MAX_WAITING
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Wait for running queries and stop."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def run(self, request: Request, query: Callable[[Budget], Result]) -> Result:
        """Return a query's result. A client that hangs up and a time-out both interrupt it.

        Raises:
            OverloadedError: There is no place.
            RetryableError: The time is over.
        """
        if not self._places:
            raise OverloadedError(f"found {MAX_WAITING} requests waiting already, expected fewer")
        self._places -= 1
        try:
            return await self._run(request, query)
        finally:
            self._places += 1

    async def _run(self, request: Request, query: Callable[[Budget], Result]) -> Result:
        budget = Budget(self._timeout_s)
        context = contextvars.copy_context()
        work = asyncio.wrap_future(self._pool.submit(lambda: context.run(query, budget)))
        gone = asyncio.ensure_future(_hung_up(request))
        try:
            either: list[asyncio.Future[Any]] = [work, gone]
            await asyncio.wait(either, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                found = "its client gone" if gone.done() else f"no end after {self._timeout_s:g} s"
                await _stop(work, budget, f"query: found {found}, expected an end in time; ask for less")
            return await work
        finally:
            gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stop(work: asyncio.Future[Result], budget: Budget, reason: str) -> None:
    """Cancel until it is heard: a cursor that was about to start misses the first call."""
    for _ in range(_CANCEL_TRIES):
        budget.cancel(reason)
        await asyncio.wait([work], timeout=_CANCEL_EVERY_S)
        if work.done():
            return
    raise RetryableError(reason)
