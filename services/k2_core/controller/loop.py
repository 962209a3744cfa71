"""The controller of one pipeline: look, decide, tell. The same in the operator and under `k2 up`.

What it decided last stands in the control topic, with what it must remember, so that it may die at any time and its
absence changes no level. How sinks are started and stopped is the business of whoever calls it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from k2_core.clock import utc_now
from k2_core.control import Command, Override
from k2_core.control_topic import ControlReader, ControlWriter
from k2_core.controller.kept import kept_level
from k2_core.controller.look import Look, Looker
from k2_core.controller.shown import document
from k2_core.controller.sight import Executor, observe
from k2_core.controller.stall import Stall, StallWatch
from k2_core.errors import K2Error, KafkaUnavailableError, SetupError, StateError
from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.degradation import LevelState
from k2_core.policy.memory import from_dict, to_dict
from k2_core.policy.observation import Observation
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import Mode, PolicyConfig
from k2_core.types import Level

REMEMBER_EVERY_S: Final = 10.0
"""A controller that dies has forgotten at most so much of rates and calm; levels and replicas are stored at once."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tick:
    """One turn.

    Args:
        decision: What the policy says.
        look: What was seen; None when Kafka did not answer.
        override: What a person wants instead, if anything is in force.
        told: Whether a new command was written.
        stall: Sinks that hang.
    """

    decision: Decision
    look: Look | None
    override: Override | None
    told: bool
    stall: Stall | None = None


class Controller:
    """Decides for one pipeline.

    Args:
        config: The policy's settings.
        looker: Sees.
        reader: Knows what was said before.
        writer: Tells.
        now: UTC.

    Raises:
        KafkaUnavailableError: What was said before cannot be read, or nothing was and sinks do not say what they keep:
            to start without it would change levels.
    """

    def __init__(
        self,
        config: PolicyConfig,
        looker: Looker,
        reader: ControlReader,
        writer: ControlWriter,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._looker = looker
        self._reader = reader
        self._writer = writer
        self._now = now
        self._last: Look | None = None
        self._watch = StallWatch()
        self._remembered_at: datetime | None = None
        self._told: tuple[object, ...] | None = None
        self._taken_over: Level | None = None
        self._state = self._restored()
        self._remembered_sinks = self._state.scaling.target
        self.refused: str | None = None
        """Why Kafka does not let the control topic be made again; None if nobody had to, or it could."""
        self.untold = False
        """Whether services could not be told yet what was decided last."""

    def _restored(self) -> PolicyState:
        view = self._reader.read_all()
        if view.command is not None:
            self._told = _essence(view.command)
        if view.memory is not None:
            try:
                return from_dict(view.memory["policy"])
            except (StateError, KeyError) as error:
                _log.warning("memory: begins anew at the level at work", extra={"error": str(error)})
        return PolicyState(level=LevelState(self._kept() if view.command is None else view.command.level))

    def _kept(self) -> Level:
        """Return the level that sinks keep of what stood in the control topic, if they are told levels at all."""
        if self._config.degradation.mode is not Mode.AUTO:
            return Level.NORMAL
        level = kept_level(self._looker.look())
        if level is not Level.NORMAL:
            _log.warning("control topic: holds no level, what sinks keep is taken over", extra={"level": int(level)})
            self._taken_over = level
        return level

    @property
    def asked_for(self) -> int | None:
        """How many sinks were asked for last, by whichever controller; None if that was never decided."""
        return self._state.scaling.target

    def configure(self, config: PolicyConfig) -> None:
        """Decide by these settings from the next turn on. What is remembered stays."""
        self._config = config

    def tick(self, executor: Executor) -> Tick:
        """Look, decide, and tell what is new.

        Args:
            executor: What whoever runs the sinks knows.
        """
        self._reader.poll(0)
        sound = self._restore()
        look = self._look()
        stall = None if look is None else self._watch.seen(look)
        observation = _unseen(executor) if look is None else observe(self._last, look, executor, stall)
        self._last = look
        now = self._now()
        self._state, decision = step(self._config, self._state, observation, now.timestamp())
        decision = self._explained(decision)
        told = self._tell(decision, now, sound=sound)
        if sound:  # else each try to write would hold up the next look
            # A number of sinks that whoever runs them takes up and a new controller does not know would be taken back.
            self._remember(decision, stall, now, at_once=told or self._state.scaling.target != self._remembered_sinks)
        return Tick(decision, look, self._reader.view.override(now), told, stall)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the control topic; None when all is well."""
        return self._reader.trouble

    def _restore(self) -> bool:
        """Say again what somebody has taken out of the control topic: services know it, those that start now do not.

        Returns whether there is a topic to write to.
        """
        if not self._reader.missing and not self._reader.lost:
            self.refused = None
            return True
        try:
            if self._reader.missing:
                self._writer.make_again()
                self._reader.look_again()  # else the next turn finds it missing still, and says all of it once more
            for override in self._reader.view.overrides:
                self._writer.override(override)
        except K2Error as error:  # services keep what they were told; the next turn tries again
            self.refused = str(error) if isinstance(error, SetupError) else None
            _log.warning("control topic: will be restored later", extra={"error": str(error)})
            return False
        _log.warning("control topic: restored", extra={"overrides": len(self._reader.view.overrides)})
        self._told = self._remembered_at = None
        return True

    def _look(self) -> Look | None:
        try:
            return self._looker.look()
        except KafkaUnavailableError as error:  # nothing is known, so everything is held
            _log.warning("look: everything is held", extra={"error": str(error)})
            return None

    def _explained(self, decision: Decision) -> Decision:
        """Say of a level that was taken over that it was, for as long as nothing else is the reason."""
        level = decision.level
        if level.applied is not self._taken_over:
            self._taken_over = None
        elif level.why in {Reason.STEADY, Reason.METRICS_MISSING}:
            return replace(decision, level=replace(level, why=Reason.TAKEN_OVER))
        return decision

    def _tell(self, decision: Decision, now: datetime, *, sound: bool) -> bool:
        command = Command(
            level=decision.level.applied,
            reason=decision.level.why,
            decided_at=now,
            commit_interval_s=decision.replicas.commit_interval_s,
        )
        if (
            (last := self._reader.view.command) is not None
            and self._told is None
            and _essence(last) == _essence(command)
        ):
            command = last  # said again, as of when and for why it was decided
        self.untold = _essence(command) != self._told or not sound
        if not self.untold or not sound:
            return False
        try:
            self._writer.command(command)
        except KafkaUnavailableError as error:  # services keep what they were told; the next turn tries again
            _log.warning("command: will be tried again", extra={"error": str(error)})
            return False
        self._told, self.untold = _essence(command), False
        return True

    def _remember(self, decision: Decision, stall: Stall | None, now: datetime, *, at_once: bool) -> None:
        last = self._remembered_at
        if last is not None and not at_once and (now - last).total_seconds() < REMEMBER_EVERY_S:
            return
        try:
            said = document(decision, stall) | {"at": now.isoformat(timespec="seconds")}
            self._writer.memory({"policy": to_dict(self._state), "decision": said})
        except KafkaUnavailableError as error:  # the next turn tries again
            _log.warning("memory: will be tried again", extra={"error": str(error)})
        else:
            self._remembered_at, self._remembered_sinks = now, self._state.scaling.target

    def close(self) -> None:
        """Leave Kafka. Levels stay as they are."""
        self._looker.close()
        self._reader.close()


def _unseen(executor: Executor) -> Observation:
    return Observation(replicas=executor.replicas, stopping=executor.stopping)


def _essence(command: Command) -> tuple[object, ...]:
    """What makes a command worth telling: why it is as it is changes all the time."""
    return command.level, command.commit_interval_s
