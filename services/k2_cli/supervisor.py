"""The processes of a running `k2 up`: started, watched, restarted when they die, stopped in order.

The restart policy is pure. Called by `k2_cli.up` from one thread. It knows nothing of what a process does: the order of
stopping and what may end by itself are said by whoever adds it.
"""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from k2_cli.output import Say
from k2_core.errors import SetupError, StateError

REFUSED: Final = 5
"""The exit status of a service that refuses to go on, see `k2_core.exits`."""


class Unit(Protocol):
    """What can be supervised: a process, or Kafka with its lock and port."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs or before it was started."""

    def start(self) -> None:
        """Start, again if it has ended."""

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once."""

    def stop(self) -> int | None:
        """Send SIGTERM, wait, and kill in the end; returns the exit status."""

    def kill(self) -> None:
        """Kill it with everything that it started."""

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of its log since its last start."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a process that died is started again.

    Args:
        first_backoff_s: Wait after the first death; doubles with each one that follows.
        longest_backoff_s: Bound of that.
        deaths: So many within the window are a crash loop.
        window_s: See `deaths`; a process that lived longer than this starts with a clean record.
        permanent: Exit codes with which a process says that another start would end the same (2: wrong settings, 5: it
            refuses to go on until a person decides).
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 15.0
    deaths: int = 5
    window_s: float = 120.0
    permanent: frozenset[int] = frozenset({2, REFUSED})

    def backoff_s(self, died_at: Iterable[float], now: float, exit_status: int | None) -> float | None:
        """Return how long to wait before the next start, or None to give up.

        Args:
            died_at: Monotonic times of its deaths, the last included.
            now: Monotonic.
            exit_status: Of the last death.
        """
        recent = sum(1 for at in died_at if now - at <= self.window_s)
        if exit_status in self.permanent or recent >= self.deaths:
            return None
        return float(min(self.first_backoff_s * 2 ** max(0, recent - 1), self.longest_backoff_s))


@dataclass(slots=True)
class Child:
    """A supervised unit.

    Args:
        name: For people.
        unit: What runs.
        stage: Stopped in ascending order; one stage is stopped together.
        may_end: Whether ending with 0 by itself is what it is for.
        stopping: What it does when it is asked to stop, for people.
        starts: How often it was started.
    """

    name: str
    unit: Unit
    stage: int
    may_end: bool = False
    stopping: str = "stopping"
    starts: int = 0
    _died_at: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    _start_at: float | None = None
    _gone_by: float | None = None

    @property
    def retiring(self) -> bool:
        """Whether it was asked to stop for good."""
        return self._gone_by is not None

    @property
    def ended(self) -> bool:
        """Whether it has done what it was for."""
        return self.may_end and self.starts > 0 and self.unit.returncode == 0


class Supervisor:
    """All children of one `k2 up`.

    Args:
        say: Tells the user what happened.
        policy: When to restart.
        clock: Monotonic seconds.
    """

    def __init__(
        self, say: Say, policy: RestartPolicy | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.children: list[Child] = []
        self._say = say
        self._policy = policy or RestartPolicy()
        self._clock = clock

    def start(self, child: Child) -> None:
        """Start a child and watch it from now on.

        Raises:
            SetupError: It cannot be started.
        """
        self.children.append(child)
        self._start(child)

    def adopt(self, child: Child) -> None:
        """Watch a child that somebody has started already."""
        child.starts += 1
        self.children.append(child)

    def check(self) -> bool:
        """Look at all children, start again those that died and whose time has come; returns whether any was started.

        Raises:
            SetupError: A child dies again and again, or for a reason that a restart does not heal.
            StateError: A child refuses to go on; the message is its own, and names the command to run.
        """
        restarted = False
        self._forget_retired()
        for child in self.children:
            if child.retiring or child.unit.running or child.ended:
                continue
            if child._start_at is None:
                self._died(child)
            if child._start_at is not None and self._clock() >= child._start_at:
                self._start(child)
                restarted = True
        return restarted

    def retire(self, name: str, within_s: float) -> None:
        """Ask a child to stop for good and return at once: `check` forgets it once it has ended.

        Args:
            name: Of the child.
            within_s: What it may take before it is killed.
        """
        for child in self.children:
            if child.name == name and not child.retiring:
                self._say(f"{child.name}: {child.stopping}")
                child._gone_by = self._clock() + within_s
                child.unit.ask_to_stop()

    def _forget_retired(self) -> None:
        for child in [child for child in self.children if child.retiring]:
            if child.unit.running and child._gone_by is not None and self._clock() >= child._gone_by:
                self._say(f"{child.name} did not stop in its time: killed")
                child.unit.kill()
            if not child.unit.running:
                child.unit.stop()
                self.children.remove(child)

    def ask_to_stop(self, stage: int) -> None:
        """Ask the children of one stage to stop, and return at once."""
        for child in self._of(stage):
            if child.unit.running and not child.retiring:
                self._say(f"{child.name}: {child.stopping}")
                child.unit.ask_to_stop()

    def stop(self, stage: int | None = None) -> dict[str, int | None]:
        """Stop one stage, or everything in order; returns the exit status of each child. May be called again."""
        statuses: dict[str, int | None] = {}
        stages = sorted({child.stage for child in self.children}) if stage is None else [stage]
        for number in stages:
            self.ask_to_stop(number)
            statuses |= {child.name: _how_it_stopped(child.unit) for child in self._of(number)}
        return statuses

    def _of(self, stage: int) -> list[Child]:
        return [child for child in self.children if child.stage == stage]

    def kill(self) -> None:
        """Kill everything at once."""
        for child in self.children:
            child.unit.kill()

    def _start(self, child: Child) -> None:
        child._start_at = None
        child.starts += 1
        child.unit.start()

    def _died(self, child: Child) -> None:
        now, status = self._clock(), child.unit.returncode
        child._died_at.append(now)
        wait_s = self._policy.backoff_s(child._died_at, now, status)
        how = _how(status)
        if wait_s is None and status == REFUSED:
            raise StateError(f"{child.name} refuses to go on: {last_word(child.unit.log_tail())}")
        if wait_s is None:
            times = f" {len(child._died_at)} times" if len(child._died_at) > 1 else ""
            raise SetupError(f"{child.name} ended{times}, at last {how}; its log ends with:\n{child.unit.log_tail()}")
        child._start_at = now + wait_s
        self._say(f"{child.name} ended {how}; starting it again in {wait_s:g} s")


def _how_it_stopped(unit: Unit) -> int | None:
    """Stop a unit and return its exit status: 0 if the signal met it before it had done or said anything."""
    status = unit.stop()
    return 0 if status == -signal.SIGTERM and not unit.log_tail() else status


def _how(status: int | None) -> str:
    return f"by signal {-status}" if status is not None and status < 0 else f"with exit status {status}"


def last_word(log_tail: str) -> str:
    """Return why a service ended, by its own last words: its critical line, or else its last one."""
    lines = log_tail.splitlines()
    for line in reversed(lines):
        if line.startswith("{") and (said := json.loads(line)).get("level") == "CRITICAL":
            return str(said["message"])
    return lines[-1] if lines else "it did not say why"
