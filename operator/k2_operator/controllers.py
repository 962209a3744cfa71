"""Runs the controller of each pipeline that has one, again and again, and wakes pipelines for which it decided anew.

A turn looks at Kafka, decides and tells services; it runs in a thread with the clients' time-outs, never two at once
for a pipeline. What is decided about the sinks is the reconcile's to do. Ending a controller changes no level: what
services were told stands in the control topic. Called by `reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

from confluent_kafka import KafkaException

from k2_core.control_topic import ControlReader, ControlWriter
from k2_core.controller.look import Looker
from k2_core.controller.loop import Controller, Tick
from k2_core.controller.sight import Executor
from k2_core.errors import K2Error, KafkaUnavailableError
from k2_core.policy.configured import policy_config
from k2_core.spec import Pipeline
from k2_operator.decided import Decided, news, taken
from k2_operator.kafkas import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, Kafka
from k2_operator.rounds import Rounds, Subject
from k2_operator.store import Key

TURN_EVERY_S: Final = 2.0
TURNS_PER_S: Final = 20.0
"""Of all pipelines together, as with looks."""
THREADS: Final = 8
LACKING_AFTER_S: Final = 60.0
"""Figures may be missing for so long before it is called a fault: sinks start, groups hand over, brokers move."""
SAY_AGAIN_S: Final = 10.0
"""Why a decision is as it is changes all the time; it is worth a reconcile at most this often."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one controller looks after.

    Args:
        kafka: Where the pipeline's topics are.
        pipeline: As it is asked for now.
        executor: Its sinks as they stand now.
    """

    kafka: Kafka
    pipeline: Pipeline
    executor: Executor

    def is_of(self, other: Charge | None) -> bool:
        """Whether a controller of the other goes on with this one: only the settings may differ."""
        return other is not None and self.kafka is other.kafka and _ground(self.pipeline) == _ground(other.pipeline)


def _ground(pipeline: Pipeline) -> tuple[object, ...]:
    return pipeline.control_name, pipeline.trades_topics(), pipeline.sink_group, pipeline.committed_group


@dataclass
class _Subject(Subject):
    charge: Charge | None = None
    wanted: bool = True
    made_for: Charge | None = None
    controller: Controller | None = None
    decided: Decided = field(default_factory=Decided)
    lacking_since_s: float | None = None
    woken_s: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S


class Controllers:
    """All controllers of one operator.

    Args:
        decided: Called after each turn with what was decided, and whether a reconcile has something to do or to say
            about it; with None once nothing is decided any more.
        clock: Monotonic seconds.
    """

    def __init__(
        self, decided: Callable[[Key, Decided | None, bool], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._decided = decided
        self._clock = clock
        self._rounds = Rounds[_Subject](self._do, lambda: TURN_EVERY_S, clock)
        self._subjects = self._rounds.subjects
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="controller")

    def look_after(self, key: Key, charge: Charge) -> None:
        """Decide for a pipeline from now on, or go on with what has changed in it."""
        subject = self._subjects.setdefault(key, _Subject(self._clock()))
        if subject.charge is None:
            self._rounds.hurry(subject)
        subject.charge, subject.wanted = charge, True

    def pause(self, key: Key) -> None:
        """Decide nothing for a while, and remember what was decided last."""
        subject = self._subjects.get(key)
        if subject is not None and subject.charge is not None:
            subject.charge = None
            self._decided(key, None, False)
            self._rounds.hurry(subject)

    def forget(self, key: Key) -> None:
        """Decide no longer, and forget what was decided."""
        self.pause(key)
        if (subject := self._subjects.get(key)) is not None:
            subject.wanted, subject.decided = False, Decided()
            self._rounds.hurry(subject)

    def of(self, key: Key) -> Decided | None:
        """Return what was decided last, however long ago; None before the first turn."""
        subject = self._subjects.get(key)
        return subject.decided if subject is not None and subject.wanted else None

    async def run(self) -> None:
        """Decide for ever."""
        try:
            await self._rounds.run()
        finally:
            self.close()

    def close(self) -> None:
        """Stop; turns that are under way are left to their time-outs."""
        self._rounds.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _do(self, key: Key, subject: _Subject) -> None:
        await (self._turn(key, subject) if subject.charge is not None else self._end(key, subject))

    async def _end(self, key: Key, subject: _Subject) -> None:
        """Let go of Kafka; a subject that somebody wants again meanwhile begins anew."""
        controller, subject.controller = subject.controller, None
        if controller is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, controller.close)
        subject.lacking_since_s, subject.due_s = None, float("inf")
        if subject.charge is not None:
            subject.due_s = self._clock()
        elif not subject.wanted and self._subjects.get(key) is subject:
            del self._subjects[key]
        self._rounds.done(subject)

    # A turn.

    async def _turn(self, key: Key, subject: _Subject) -> None:
        charge = subject.charge
        assert charge is not None  # noqa: S101  # `_start_due` has looked
        problem: str | None = None
        tick: Tick | None = None
        try:
            if charge.kafka.problem is None:  # else the look at topics finds out when it is back
                async with charge.kafka.turns:
                    loop = asyncio.get_running_loop()
                    tick = await loop.run_in_executor(self._threads, _take_turn, subject, charge)
        except KafkaUnavailableError as error:
            _log.warning("turn: will be tried again", extra={"pipeline": "/".join(key), "error": str(error)})
        except (K2Error, KafkaException) as error:
            problem = str(error)
            _log.warning("turn: will be tried again", extra={"pipeline": "/".join(key), "error": problem})
        finally:
            self._plan(subject, well=tick is not None and tick.look is not None)
            self._rounds.done(subject)
        if subject.charge is not None:
            self._note(key, subject, tick, problem)

    def _plan(self, subject: _Subject, *, well: bool) -> None:
        if subject.charge is None:
            return  # it is to end at once
        delay_s = max(TURN_EVERY_S, len(self._subjects) / TURNS_PER_S)
        if well:
            subject.backoff_s = FIRST_BACKOFF_S
        else:
            delay_s = max(delay_s, subject.backoff_s)
            subject.backoff_s = min(LONGEST_BACKOFF_S, 2 * subject.backoff_s)
        subject.due_s = self._clock() + delay_s

    def _note(self, key: Key, subject: _Subject, tick: Tick | None, problem: str | None) -> None:
        now_s, last, controller = self._clock(), subject.decided, subject.controller
        if problem is None and controller is not None:
            problem = controller.refused
        new = (
            replace(last, seen=False)
            if tick is None
            else taken(last, tick, told=controller is not None and not controller.untold)
        )
        if problem is None and tick is not None and not new.lacks:
            subject.lacking_since_s = None
        elif subject.lacking_since_s is None:
            subject.lacking_since_s = now_s
        since_s = subject.lacking_since_s
        new = replace(new, problem=problem, lacking=since_s is not None and now_s - since_s >= LACKING_AFTER_S)
        subject.decided = new
        differs = news(last, new) or (new != last and now_s - subject.woken_s >= SAY_AGAIN_S)
        if differs:
            subject.woken_s = now_s
        self._decided(key, new, differs)


def _take_turn(subject: _Subject, charge: Charge) -> Tick:
    """Let a pipeline's controller look and decide. In a thread, and alone with the subject's controller."""
    if subject.controller is not None and not charge.is_of(subject.made_for):
        subject.controller.close()
        subject.controller = None
    if subject.controller is None:
        subject.controller, subject.made_for = _begin(charge), charge
    subject.controller.configure(policy_config(charge.pipeline.spec))
    return subject.controller.tick(charge.executor)


def _begin(charge: Charge) -> Controller:
    kafka, name = charge.kafka, charge.pipeline.control_name
    writer = ControlWriter(kafka.settings, name, producer=kafka.producer(), admin=kafka.topics)
    looker = Looker(kafka.settings, charge.pipeline, kafka.topics, kafka.ages(name))
    reader = ControlReader(kafka.settings, name, log=kafka.control())
    return Controller(policy_config(charge.pipeline.spec), looker, reader, writer)
