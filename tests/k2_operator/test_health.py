from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from k2_core.errors import SetupError
from k2_core.health import Check
from k2_operator.config import OperatorConfig
from k2_operator.health import live_checks, serve
from k2_operator.store import Key
from k2_operator.transport import WatchSigns
from k2_operator.workqueue import WorkQueue

KEY = Key("ns", "p")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def checks(clock: Clock, config: OperatorConfig) -> tuple[WatchSigns, WorkQueue, dict[str, Check]]:
    signs, queue = WatchSigns(clock), WorkQueue(clock)
    return signs, queue, live_checks(signs, queue, config.watch_seconds, config.reconcile_limit_seconds)


class TestBounds:
    def test_a_watch_may_be_silent_for_three_minutes_unless_configured(self) -> None:
        clock = Clock()
        signs, _, found = checks(clock, OperatorConfig())
        signs.seen("/api/v1/pods")
        clock.now_s += 180
        assert found["watches"]() is None
        clock.now_s += 1
        text = "watch of /api/v1/pods: found no answer for 181 s, expected one within 180 s"
        assert found["watches"]() == text
        signs.seen("/api/v1/pods")
        assert found["watches"]() is None

    def test_as_configured(self) -> None:
        clock = Clock()
        signs, _, found = checks(clock, OperatorConfig(watch_seconds=2))
        signs.expect("/api/v1/pods")
        clock.now_s += 6
        assert found["watches"]() is None
        clock.now_s += 1
        assert found["watches"]() is not None

    def test_the_oldest_watch_counts_and_one_that_was_never_answered_counts_from_the_start(self) -> None:
        clock = Clock()
        signs, _, found = checks(clock, OperatorConfig())
        signs.expect("a")
        clock.now_s += 181
        signs.seen("b")
        signs.expect("a")
        assert "watch of a" in str(found["watches"]())

    def test_a_reconcile_may_take_two_minutes_and_so_may_the_wait_for_one(self) -> None:
        asyncio.run(self._reconcile())

    @staticmethod
    async def _reconcile() -> None:
        clock = Clock()
        _, queue, found = checks(clock, OperatorConfig())
        queue.wake(KEY)
        clock.now_s += 120
        assert found["reconciles"]() is None
        clock.now_s += 1
        assert found["reconciles"]() == "found a reconcile that takes 121 s, expected at most 120 s"
        await queue.take()
        assert found["reconciles"]() is None
        clock.now_s += 121
        assert found["reconciles"]() is not None
        queue.done(KEY)
        assert found["reconciles"]() is None


class TestServe:
    def test_probes_say_what_is_wrong_and_metrics_are_there(self) -> None:
        asyncio.run(self._serve())

    @staticmethod
    async def _serve() -> None:
        live: dict[str, Check] = {"one": lambda: None}
        ready: dict[str, Check] = {"two": lambda: "not yet"}
        runner, port = await serve("127.0.0.1", 0, CollectorRegistry(), live, ready)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                async with session.get("/livez") as answer:
                    assert answer.status == 200
                async with session.get("/readyz") as answer:
                    assert answer.status == 503
                    assert "not yet" in json.dumps(await answer.json())
                async with session.get("/metrics") as answer:
                    assert answer.headers["Content-Type"].startswith("text/plain")
            with pytest.raises(SetupError, match="in use"):
                await serve("127.0.0.1", port, CollectorRegistry(), live, ready)
        finally:
            await runner.cleanup()
