"""What the control topic says: a pipeline's level as the controller decides it, and what people override it with.

One compacted topic for all pipelines of a Kafka. Per pipeline it holds the newest `Command` of the controller, what
the controller must remember, and every `Override` ever made, so that who did what and why can be read later. Written by
the controller and `k2 level`, followed by sinks and query services through `k2_core.control_topic`. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from k2_core.errors import StateError
from k2_core.types import Level, TopicName

FORMAT: Final = 1
CONTROL_TOPIC: Final = TopicName("k2.control")
COMMAND: Final = "command"
"""The kind of a record that holds one."""
_MEMORY: Final = "memory"
_OVERRIDE: Final = "override"


@dataclass(frozen=True, slots=True)
class Command:
    """What the controller has decided.

    Args:
        level: What services are to do.
        reason: Why, a word of `k2_core.policy.reasons`.
        commit_interval_s: With which sinks are to commit; None: as the pipeline says.
        decided_at: UTC.
    """

    level: Level
    reason: str
    decided_at: datetime
    commit_interval_s: float | None = None

    def dump(self) -> bytes:
        """Return it as JSON."""
        return _dump(
            level=int(self.level),
            reason=self.reason,
            commit_interval_s=self.commit_interval_s,
            decided_at=_text(self.decided_at),
        )

    @classmethod
    def parse(cls, value: bytes) -> Command:
        """Read what `dump` wrote.

        Raises:
            StateError: It is something else.
        """
        document = _parse(value)
        try:
            interval_s = document["commit_interval_s"]
            return cls(
                level=Level(document["level"]),
                reason=str(document["reason"]),
                decided_at=_moment(document["decided_at"]),
                commit_interval_s=None if interval_s is None else float(interval_s),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable("a command", value, error) from error


@dataclass(frozen=True, slots=True)
class Override:
    """What a person has decided instead, for a while.

    Args:
        level: What services are to do; None takes the override before it back.
        reason: Why, in the person's words.
        by: Who.
        made_at: UTC.
        until: When it ends by itself, UTC.
    """

    level: Level | None
    reason: str
    by: str
    made_at: datetime
    until: datetime

    def dump(self) -> bytes:
        """Return it as JSON."""
        return _dump(
            level=None if self.level is None else int(self.level),
            reason=self.reason,
            by=self.by,
            made_at=_text(self.made_at),
            until=_text(self.until),
        )

    @classmethod
    def parse(cls, value: bytes) -> Override:
        """Read what `dump` wrote.

        Raises:
            StateError: It is something else.
        """
        document = _parse(value)
        try:
            level = document["level"]
            return cls(
                level=None if level is None else Level(level),
                reason=str(document["reason"]),
                by=str(document["by"]),
                made_at=_moment(document["made_at"]),
                until=_moment(document["until"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable("an override", value, error) from error

    def in_force(self, now: datetime) -> bool:
        """Return whether it overrides at this time."""
        return self.level is not None and now < self.until


@dataclass(slots=True)
class ControlView:
    """What the control topic says of one pipeline, as far as it was read; threads may look while records are taken in.

    Args:
        pipeline: Its name in the topic, see `Pipeline.control_name`.
        command: The newest.
        overrides: All of them, oldest first.
    """

    pipeline: str
    command: Command | None = None
    overrides: tuple[Override, ...] = ()
    _memory: bytes | None = None

    @property
    def memory(self) -> Mapping[str, Any] | None:
        """What the controller stored, as JSON says it: kept as it was written, as few ask and then once."""
        return None if self._memory is None else _memory(self._memory)

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record in; those of other pipelines and deletions change nothing.

        Raises:
            StateError: It is of this pipeline and holds something else than expected: everything stays as it was.
        """
        kind = self.kind(key)
        if kind is None or value is None:
            return
        match kind:
            case "command":
                self.command = Command.parse(value)
            case "memory":
                _memory(value)
                self._memory = value
            case "override":
                made = Override.parse(value)
                others = (one for one in self.overrides if one.made_at != made.made_at)  # the topic may be read again
                self.overrides = tuple(sorted((*others, made), key=lambda one: one.made_at))

    def override(self, now: datetime) -> Override | None:
        """Return the override that is in force: the newest, if it has not ended and takes nothing back."""
        newest = self.overrides[-1] if self.overrides else None
        return newest if newest is not None and newest.in_force(now) else None

    def level(self, now: datetime) -> Level:
        """Return the level that services are to take; NORMAL while nobody has said anything."""
        override = self.override(now)
        if override is not None and override.level is not None:
            return override.level
        return Level.NORMAL if self.command is None else self.command.level

    def kind(self, key: bytes | None) -> str | None:
        """Return what a record with this key is of this pipeline; None if it is another's, or nothing known."""
        if key is None or named(key) != self.pipeline:
            return None
        kind = key.decode(errors="replace").partition("/")[2].partition("/")[0]
        return kind if kind in {COMMAND, _MEMORY, _OVERRIDE} else None


def named(key: bytes) -> str:
    """Return the pipeline that a record's key names."""
    return key.decode(errors="replace").partition("/")[0]


def command_key(pipeline: str) -> bytes:
    """Return the key of a pipeline's command: a newer one replaces it."""
    return f"{pipeline}/{COMMAND}".encode()


def memory_key(pipeline: str) -> bytes:
    """Return the key of what a pipeline's controller remembers."""
    return f"{pipeline}/{_MEMORY}".encode()


def override_key(pipeline: str, override: Override) -> bytes:
    """Return the key of an override: each its own, so that compaction keeps them all."""
    return f"{pipeline}/{_OVERRIDE}/{_text(override.made_at)}".encode()


def dump_memory(memory: Mapping[str, Any]) -> bytes:
    """Return what a controller remembers as it is stored."""
    return _dump(memory=memory)


def _memory(value: bytes) -> Mapping[str, Any]:
    found = _parse(value).get("memory")
    if not isinstance(found, dict):
        raise StateError(f"control topic: found {value[:80]!r}, expected a controller's memory")
    return found


def _dump(**document: object) -> bytes:
    return json.dumps({"format": FORMAT} | document, separators=(",", ":")).encode()


def _parse(value: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(value)
        found = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable("JSON with a format", value, error) from error
    if found != FORMAT:
        raise StateError(f"control topic: found format {found!r}, expected {FORMAT}; use a K2 that reads it")
    return dict(document)


def _unreadable(expected: str, value: bytes, error: Exception) -> StateError:
    return StateError(f"control topic: found {value[:80]!r}, expected {expected} ({error!r})")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"found {text!r}, expected a time with its zone")
    return moment.astimezone(UTC)
