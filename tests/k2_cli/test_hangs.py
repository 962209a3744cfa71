"""Real processes with K2's own probes: frozen, or without progress, they are ended and started again; others not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from k2_cli.hangs import AGAIN_AFTER_S, ASK_EVERY_S, Hangs
from k2_cli.scrape import Scraper
from k2_cli.stack import ports
from k2_cli.stack.process import ManagedProcess
from k2_cli.supervisor import Child, Supervisor
from k2_cli.units import ProcessUnit
from k2_core.health import LIVE_WITHIN_S

PATIENCE_S = 60.0
SERVICE = """
import pathlib, sys, time
from prometheus_client import CollectorRegistry
from k2_core.health import HealthServer

port, stuck = int(sys.argv[1]), pathlib.Path(sys.argv[2])
loop = lambda: "found no progress" if stuck.exists() else None
with HealthServer("127.0.0.1", port, CollectorRegistry(), {}, live={"loop": loop}):
    time.sleep(120)
"""


class World:
    """A service under a supervisor, at a time of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1_000.0
        self.said: list[str] = []
        self.stuck = folder / "stuck"
        self.port = ports.find_free(str(folder))
        self.url = f"http://127.0.0.1:{self.port}"
        self.supervisor = Supervisor(self.said.append, clock=lambda: self.now_s)
        command = [sys.executable, "-c", SERVICE, str(self.port), str(self.stuck)]
        self.process = ManagedProcess(name="sink-0", command=command, log=folder / "sink-0.log", stop_timeout_s=60)
        self.child = Child("sink-0", ProcessUnit(self.process), 0)
        self.hangs = Hangs(self.supervisor, {"sink-0": self.url}, self.said.append, clock=lambda: self.now_s)
        self._wait_for_an_answer(PATIENCE_S)

    def _wait_for_an_answer(self, seconds: float) -> None:
        self.hangs._scraper._client.timeout = httpx.Timeout(seconds)

    def freeze(self) -> None:
        """Let it answer nothing, for which nobody need wait long."""
        self._wait_for_an_answer(0.2)
        os.kill(self.process.pid or 0, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, and wait for its answer for as long as a crowded machine takes."""
        self._wait_for_an_answer(PATIENCE_S)
        os.kill(self.process.pid or 0, signal.SIGCONT)
        self.answers()

    def start(self) -> None:
        self.supervisor.start(self.child)
        self.answers()

    def answers(self) -> None:
        """Wait until it does."""
        scraper = Scraper()
        self.until(lambda: scraper.live(self.url) is not None)
        scraper.close()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.process.log_tail()
            time.sleep(0.02)

    def look(self, after_s: float = ASK_EVERY_S) -> int:
        """Look so much later; returns how often the service has been started since the beginning."""
        self.now_s += after_s
        self.hangs.check()
        if self.child.unit.running:
            return self.child.starts
        self.supervisor.check()
        self.now_s += 1
        self.supervisor.check()
        self.answers()
        return self.child.starts


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.start()
    yield made
    made.hangs.close()
    made.supervisor.kill()


def test_who_answers_is_left_alone(world: World) -> None:
    assert [world.look(200) for _ in range(3)] == [1, 1, 1]
    assert world.said == []


def test_a_frozen_one_is_ended_after_the_time_that_a_loop_may_take(world: World) -> None:
    assert world.look() == 1
    world.freeze()
    assert world.look(LIVE_WITHIN_S - 1) == 1
    assert world.look(ASK_EVERY_S) == 2
    assert world.said == [
        "sink-0 has not answered for 189 s: ended; nothing is lost",
        "sink-0 ended by signal 9; starting it again in 0.5 s",
    ]
    world._wait_for_an_answer(PATIENCE_S)
    assert world.look() == 2


def test_one_that_goes_on_in_time_is_left_alone(world: World) -> None:
    assert world.look() == 1
    world.freeze()
    assert world.look(LIVE_WITHIN_S - 1) == 1
    world.thaw()
    assert world.look() == 1
    world.freeze()
    assert world.look(LIVE_WITHIN_S - 1) == 1
    assert world.said == []


def test_one_that_says_it_makes_no_progress_is_ended_at_once_and_not_again_soon(world: World) -> None:
    world.stuck.touch()
    assert world.look() == 2
    assert world.said[0] == "sink-0 says that only a restart helps: ended; nothing is lost"
    assert world.look() == 2
    assert world.look(AGAIN_AFTER_S - ASK_EVERY_S - 2) == 2  # a second has passed until it was started again
    assert world.look(ASK_EVERY_S) == 3
    assert len(world.said) == 4


def test_nobody_is_asked_more_often_than_that(world: World) -> None:
    assert world.look() == 1
    world.stuck.touch()
    assert world.look(ASK_EVERY_S - 0.1) == 1
    assert world.look(0.1) == 2


def test_one_that_is_on_its_way_out_is_not_ended(world: World) -> None:
    world.stuck.touch()
    world.child._gone_by = 10_000.0
    assert world.look() == 1


def test_one_without_an_address_is_not_asked(world: World) -> None:
    world.stuck.touch()
    hangs = Hangs(world.supervisor, {}, world.said.append, clock=lambda: world.now_s)
    world.now_s += ASK_EVERY_S
    hangs.check()
    hangs.close()
    assert world.child.unit.running
