"""The parts of a K2Pipeline that decide from lag how many sinks there are and what is deferred: the policy's settings.

Read through `k2_core.spec`, turned into the policy's own form by `k2_core.policy.configured`; pure. What a setting does
is said in `k2_core.policy.thresholds` and docs/policy.md; the tests hold the defaults of both equal.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from k2_core.spec_fields import Model, contradiction, rule, rules
from k2_core.spec_levels import LevelsSpec

_MODE: Final = 'Auto: act; Recommend: only say what it would do; "Off", in quotes: neither.'
_DAY_SECONDS: Final = 86_400


def _bare_off(value: object) -> object:
    """Say what to do where YAML read a bare `Off` as false."""
    if value is False:
        raise PydanticCustomError("bare_off", "'Auto', 'Recommend' or 'Off', in quotes: YAML reads a bare Off as false")
    return value


Mode = Annotated[Literal["Auto", "Recommend", "Off"], BeforeValidator(_bare_off)]


class ScalingSpec(Model):
    """How many sinks there are, decided from lag. `sink.replicas` is where it starts, within the bounds or not."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.maxReplicas >= self.minReplicas", "expected at least minReplicas", field=".maxReplicas"),
            rule(
                "self.maxUtilization > self.targetUtilization",
                "expected above targetUtilization: the band between the two keeps a noisy load from moving replicas",
                field=".maxUtilization",
            ),
        )
    )

    mode: Mode = Field(default="Off", description=_MODE)
    min_replicas: int = Field(default=1, ge=1, le=100, description="Never fewer sinks.")
    max_replicas: int = Field(
        default=50, ge=1, le=100, description="Never more sinks; active partitions and the commit time may bound them."
    )
    target_utilization: float = Field(
        default=0.7, gt=0, le=1, description="Share of the sinks' throughput that the load may take after a step."
    )
    max_utilization: float = Field(
        default=0.85, gt=0, le=1, description="Share at which sinks are added even without a backlog."
    )
    catch_up_seconds: float = Field(
        default=300, ge=1, le=_DAY_SECONDS, description="Seconds within which a backlog is to be worked off."
    )
    restart_seconds: float = Field(
        default=30, ge=0, le=3600, description="Seconds for which a change stops the sinks; counted before one goes."
    )
    max_up_factor: float = Field(
        default=4, gt=1, le=100, description="One step multiplies the sinks by no more than this."
    )
    max_down_factor: float = Field(default=0.5, ge=0, le=1, description="One step leaves at least this share of them.")
    down_window_seconds: float = Field(
        default=900,
        ge=1,
        le=_DAY_SECONDS,
        description="Sinks are removed to the largest recommendation of so many seconds.",
    )
    settle_seconds: float = Field(
        default=30,
        ge=1,
        le=3600,
        description="Least seconds after a change until it is judged; two commit intervals if that is longer.",
    )
    block_seconds: float = Field(
        default=1800,
        ge=1,
        le=7 * _DAY_SECONDS,
        description="Seconds until a step that had to be taken back is tried again; doubles, three times at most.",
    )
    max_commit_interval_seconds: float | None = Field(
        default=None,
        ge=0.5,
        le=3600,
        description="Longest commit interval, in seconds, that many sinks may need; "
        "none: 300, or sink.commitIntervalSeconds if that is longer.",
    )
    assumed_per_second: float | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Records per second of one sink until that was measured; none: no change until then.",
    )

    @model_validator(mode="after")
    def _maxima_above(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise contradiction("maxReplicas", f"{self.max_replicas}", f"at least minReplicas, {self.min_replicas}")
        if self.max_utilization <= self.target_utilization:
            expected = f"above targetUtilization, {self.target_utilization}"
            raise contradiction("maxUtilization", f"{self.max_utilization}", expected)
        return self


class DegradationSpec(Model):
    """What is deferred while the pipeline cannot keep up, decided from lag."""

    mode: Mode = Field(default="Off", description=_MODE)
    levels: LevelsSpec = Field(default=LevelsSpec(), description="When each level is entered and left.")
    dwell_up_seconds: float = Field(
        default=20, ge=1, le=_DAY_SECONDS, description="Seconds in a level before a higher one; the first is at once."
    )
    dwell_down_seconds: float = Field(
        default=180,
        ge=1,
        le=_DAY_SECONDS,
        description="Seconds below all exits before the next lower level; doubles, twice at most, after a relapse.",
    )
    forecast_horizon_seconds: float = Field(
        default=30,
        ge=0,
        le=3600,
        description="Seconds ahead for which unread records are forecast once a threshold is crossed; 0: not at all.",
    )
    draining_within_seconds: float = Field(
        default=3600,
        ge=1,
        le=7 * _DAY_SECONDS,
        description="A backlog that would be gone within so many seconds is draining: alone it does not enter level 4.",
    )
    probe_seconds: float = Field(
        default=60, ge=1, le=3600, description="Seconds for which sinks drain on trial after level 4."
    )
    settle_at_most_seconds: float = Field(
        default=30, ge=0, le=3600, description="Seconds for which a scale-up holds further levels back, at most."
    )
    rebalance_grace_seconds: float = Field(
        default=30,
        ge=0,
        le=3600,
        description="Seconds from the start of a rebalance in which lag raises no level.",
    )
    watch_memory: bool = Field(
        default=True, description="Whether memory enters levels; if so, a missing figure holds the level."
    )
    raw_files_below_retention_hours: int = Field(
        default=24,
        ge=0,
        le=87_600,
        description="Level 3 keeps what waits in raw files where the log keeps records for fewer hours; 0: never.",
    )
    drain_records_per_second: int = Field(
        default=20_000, ge=1, le=10_000_000, description="How fast what was deferred is read back, records per second."
    )
