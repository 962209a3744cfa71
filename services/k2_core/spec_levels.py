"""The part of a K2Pipeline that says when each level of degradation is entered and left.

Read through `k2_core.spec`, as a part of `k2_core.spec_policy`; pure. The tests hold the defaults equal to those of
`k2_core.policy.thresholds`, whose check of them all is this model's as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import ConfigDict, Field, model_validator

from k2_core.errors import SpecError
from k2_core.policy.thresholds import (
    EXIT_AT_MOST,
    EXIT_TOLERATED,
    LEVELS_PATH,
    LevelThresholds,
    check_levels,
    level_yaml_name,
)
from k2_core.spec_fields import Model, contradiction, rule, rules
from k2_core.types import Level

_LONGEST_SECONDS: Final = 365 * 86_400
_EnterRecords = Annotated[
    int, Field(ge=1, le=10**12, description="Unread records of all partitions at which it is entered.")
]
_AGE: Final = "Age of the oldest unread record, in seconds, at which it is entered"
_EnterAge = Annotated[float, Field(ge=1, le=_LONGEST_SECONDS, description=f"{_AGE}.")]
_EnterMemory = Annotated[
    float, Field(gt=0, le=1, description="Share of its memory limit that a sink takes at which it is entered.")
]
_BELOW: Final = "below which it may be left, at most 0.7 of the entry; none: exactly that."
_ExitRecords = Annotated[int | None, Field(ge=1, le=10**12, description=f"Unread records {_BELOW}")]
_ExitAge = Annotated[float | None, Field(gt=0, le=_LONGEST_SECONDS, description=f"Age in seconds {_BELOW}")]
_ExitMemory = Annotated[float | None, Field(gt=0, le=1, description=f"Share of the memory limit {_BELOW}")]


class LevelSpec(Model):
    """When a level is entered, by any of three figures, and below what it may be left, by all of them."""

    enter_unread_records: _EnterRecords
    enter_age_seconds: _EnterAge
    enter_memory_ratio: _EnterMemory
    exit_unread_records: _ExitRecords = None
    exit_age_seconds: _ExitAge = None
    exit_memory_ratio: _ExitMemory = None


class SoftSpec(LevelSpec):
    """Level 1."""

    enter_unread_records: _EnterRecords = 1_000
    enter_age_seconds: _EnterAge = 10
    enter_memory_ratio: _EnterMemory = 0.70


class GracefulSpec(LevelSpec):
    """Level 2."""

    enter_unread_records: _EnterRecords = 10_000
    enter_age_seconds: _EnterAge = 30
    enter_memory_ratio: _EnterMemory = 0.80


class AggressiveSpec(LevelSpec):
    """Level 3."""

    enter_unread_records: _EnterRecords = 100_000
    enter_age_seconds: _EnterAge = 120
    enter_memory_ratio: _EnterMemory = 0.90


class CircuitBreakSpec(Model):
    """Level 4. It is left by a trial that looks at records and memory only, so it has no exit by age."""

    enter_unread_records: _EnterRecords = 1_000_000
    enter_age_seconds: float | None = Field(
        default=None, ge=1, le=_LONGEST_SECONDS, description=f"{_AGE}; none: never by age."
    )
    enter_memory_ratio: _EnterMemory = 0.95
    exit_unread_records: _ExitRecords = None
    exit_memory_ratio: _ExitMemory = None


_MODELS: Final[Mapping[Level, type[LevelSpec | CircuitBreakSpec]]] = {
    Level.SOFT: SoftSpec,
    Level.GRACEFUL: GracefulSpec,
    Level.AGGRESSIVE: AggressiveSpec,
    Level.CIRCUIT_BREAK: CircuitBreakSpec,
}
_TRIGGERS: Final = ("UnreadRecords", "AgeSeconds", "MemoryRatio")


def _band_rules() -> Iterator[dict[str, Any]]:
    """Each exit far enough below its entry."""
    for level, model in _MODELS.items():
        aliases = {field.alias for field in model.model_fields.values()}
        for trigger in _TRIGGERS:
            leave, entry = (f"self.{level_yaml_name(level)}.{side}{trigger}" for side in ("exit", "enter"))
            if f"exit{trigger}" in aliases:
                yield rule(
                    f"!has({leave}) || double({leave}) <= {EXIT_TOLERATED!r} * double({entry})",
                    f"expected at least 30 % below enter{trigger}",
                    field=leave.removeprefix("self"),
                )


def _order_rules() -> Iterator[dict[str, Any]]:
    """Each entry above that of the level below, and each exit too; an exit that is left out follows its entry."""
    for (lower, _), (higher, model) in pairwise(_MODELS.items()):
        aliases = {field.alias: field for field in model.model_fields.values()}
        below, above = level_yaml_name(lower), level_yaml_name(higher)
        for trigger in _TRIGGERS:
            entry, leave = f"{above}.enter{trigger}", f"{above}.exit{trigger}"
            absent = f"!has(self.{entry}) || " if aliases[f"enter{trigger}"].default is None else ""
            yield rule(
                f"{absent}self.{entry} > self.{below}.enter{trigger}",
                f"expected above that of {below}",
                field=f".{entry}",
            )
            if f"exit{trigger}" in aliases:
                least = f"self.{below}.exit{trigger}"
                default = f"{EXIT_AT_MOST} * double(self.{below}.enter{trigger})"
                yield rule(
                    f"!has(self.{leave}) || double(self.{leave}) > (has({least}) ? double({least}) : {default})",
                    f"expected above that of {below}",
                    field=f".{leave}",
                )


class LevelsSpec(Model):
    """The four levels above normal. Each figure of a level lies above that of the level below."""

    model_config = ConfigDict(json_schema_extra=rules(*_band_rules(), *_order_rules()))

    soft: SoftSpec = Field(default=SoftSpec(), description="Level 1: checks that can be made later are deferred.")
    graceful: GracefulSpec = Field(default=GracefulSpec(), description="Level 2: symbols of class low as well.")
    aggressive: AggressiveSpec = Field(default=AggressiveSpec(), description="Level 3: all but class critical.")
    circuit_break: CircuitBreakSpec = Field(
        default=CircuitBreakSpec(), description="Level 4: the sinks stand still and the log keeps everything."
    )

    @property
    def thresholds(self) -> Mapping[Level, LevelThresholds]:
        """The same as the policy has it."""
        return {
            Level.SOFT: _thresholds(self.soft),
            Level.GRACEFUL: _thresholds(self.graceful),
            Level.AGGRESSIVE: _thresholds(self.aggressive),
            Level.CIRCUIT_BREAK: _thresholds(self.circuit_break),
        }

    @model_validator(mode="after")
    def _apart(self) -> Self:
        try:
            check_levels(self.thresholds)
        except SpecError as error:
            field = error.path.removeprefix(f"{LEVELS_PATH}.")
            raise contradiction(field, error.found, error.expected) from error
        return self


def _thresholds(level: LevelSpec | CircuitBreakSpec) -> LevelThresholds:
    exit_age_seconds = level.exit_age_seconds if isinstance(level, LevelSpec) else None
    return LevelThresholds(
        enter_unread_records=level.enter_unread_records,
        enter_age_s=math.inf if level.enter_age_seconds is None else level.enter_age_seconds,
        enter_memory_ratio=level.enter_memory_ratio,
        exit_unread_records=_or_nan(level.exit_unread_records),
        exit_age_s=_or_nan(exit_age_seconds),
        exit_memory_ratio=_or_nan(level.exit_memory_ratio),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
