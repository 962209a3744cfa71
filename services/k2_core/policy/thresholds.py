"""The policy's settings with their defaults, and the rules that they keep.

Made from the pipeline's spec by `k2_core.policy.configured`; read by every module of the package. A configuration
that exists is valid: a contradiction raises SpecError with the field's path as it is written in YAML. Pure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from k2_core.errors import SpecError
from k2_core.types import Level

EXIT_AT_MOST: Final = 0.7
"""Exit at least 30 % below entry: less, and the work that a level saves is enough to leave it and come back."""
EXIT_TOLERATED: Final = EXIT_AT_MOST * (1 + 1e-9)
"""With a hair of tolerance: 0.7 times a decimal fraction is not always the nearest double of the product."""
LEVELS_PATH: Final = "spec.degradation.levels"


class Mode(enum.StrEnum):
    """Whether a decision is acted on, only shown, or not made."""

    AUTO = "Auto"
    RECOMMEND = "Recommend"
    OFF = "Off"


@dataclass(frozen=True, slots=True)
class LevelThresholds:
    """When one level is entered, by any of three triggers, and what must be undercut, by all, to leave it.

    Args:
        enter_unread_records: Unread records at which it is entered.
        enter_age_s: Age of the oldest unread record, in seconds, at which it is entered; inf: age never enters it.
        enter_memory_ratio: Share of the memory limit at which it is entered.
        exit_unread_records: Below it the level may be left; at most 0.7 of the entry; NaN: exactly that.
        exit_age_s: The same for age.
        exit_memory_ratio: The same for memory.
    """

    enter_unread_records: float
    enter_age_s: float
    enter_memory_ratio: float
    exit_unread_records: float = math.nan
    exit_age_s: float = math.nan
    exit_memory_ratio: float = math.nan

    def __post_init__(self) -> None:
        for trigger in TRIGGERS:
            if math.isnan(getattr(self, f"exit_{trigger}")):
                entry = getattr(self, f"enter_{trigger}")
                object.__setattr__(self, f"exit_{trigger}", EXIT_AT_MOST * entry)


TRIGGERS: Final = ("unread_records", "age_s", "memory_ratio")

DEFAULT_LEVELS: Final[Mapping[Level, LevelThresholds]] = {
    Level.SOFT: LevelThresholds(1_000, 10, 0.70),
    Level.GRACEFUL: LevelThresholds(10_000, 30, 0.80),
    Level.AGGRESSIVE: LevelThresholds(100_000, 120, 0.90),
    Level.CIRCUIT_BREAK: LevelThresholds(1_000_000, math.inf, 0.95),
}


@dataclass(frozen=True, slots=True)
class DegradationConfig:
    """When work is deferred.

    Args:
        mode: See Mode.
        levels: The thresholds of the levels 1 to 4.
        dwell_up_s: Seconds in a level before a higher one; the first crossing does not wait.
        dwell_down_s: Seconds below all exits before the next lower one. It doubles, twice at most, when a recovery
            has to be taken back.
        forecast_horizon_s: How far ahead unread lag is forecast when a threshold is crossed.
        draining_within_s: A backlog that would be gone within these seconds is draining.
        probe_s: How long the sink drains on trial after level 4 before the verdict.
        settle_at_most_s: A scale-up holds further levels back for no longer than this, whatever it does: new sinks
            work after 10 s, and where there is no room for them, what is critical must not wait for them.
        rebalance_grace_s: Sinks stand still in a rebalance and catch up after it: for so long after its start, unread
            lag raises no level. Memory and a failing downstream do.
        position_interval_s: Sinks tell their read position this often. What was offered since they told it is unread
            on paper only and is taken off: so many seconds where it is not known when they did. 1 s, see the commit
            protocol in the architecture.
        in_hand_s: Seconds of the offered rate that sinks which keep up have on the way to them: taken off, too, as at
            100,000 records/s a tenth of a second would enter a level that is meant for a backlog.
        standing_at_most_s: A sink reads nothing while it writes and commits, and reads what came meanwhile right after
            it: taken off, too, but for no more seconds than these. Whoever stands still for longer has a backlog.
        watch_memory: Whether memory is measured. If so, a missing figure holds the level like any other.
    """

    mode: Mode = Mode.OFF
    levels: Mapping[Level, LevelThresholds] = field(default_factory=lambda: DEFAULT_LEVELS)
    dwell_up_s: float = 20
    dwell_down_s: float = 180
    forecast_horizon_s: float = 30
    draining_within_s: float = 3600
    probe_s: float = 60
    settle_at_most_s: float = 30
    rebalance_grace_s: float = 30
    position_interval_s: float = 1
    in_hand_s: float = 0.5
    standing_at_most_s: float = 5
    watch_memory: bool = True

    def __post_init__(self) -> None:
        check_levels(self.levels)
        positive = dict.fromkeys(("dwell_up_s", "dwell_down_s", "draining_within_s", "probe_s"), _POSITIVE)
        on_paper = ("position_interval_s", "in_hand_s", "standing_at_most_s")
        others = dict.fromkeys(("forecast_horizon_s", "settle_at_most_s", "rebalance_grace_s", *on_paper), _Bounds())
        _check("degradation", self, positive | others)


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """How many sinks there are.

    Args:
        mode: See Mode.
        min_replicas: Never fewer.
        max_replicas: Never more; active partitions and the commit time may bound them further.
        target_utilization: Share of a sink's throughput that the offered load may take after a step.
        max_utilization: Share at which it scales up even without a backlog. The band between the two is what keeps
            a noisy load from moving replicas.
        catch_up_s: A backlog is to be worked off within these seconds.
        restart_s: Seconds for which a change stops the sinks (rebalance and start): counted before scaling down.
        max_up_factor: One step multiplies the replicas by no more than this.
        max_down_factor: One step leaves at least this share of them.
        down_window_s: Scaling down takes the largest recommendation of these seconds.
        settle_s: Least time after a change is through until it is judged; 2 commit intervals if that is longer.
        block_s: How long a step up that did not help, or a step down that had to be taken back, is not tried again;
            doubles, three times at most.
        commit_interval_s: The sink's interval with few replicas.
        max_commit_interval_s: The longest that it may become.
        assumed_per_s: Records/s of one sink until that was measured; None: hold until then.
    """

    mode: Mode = Mode.OFF
    min_replicas: int = 1
    max_replicas: int = 50
    target_utilization: float = 0.7
    max_utilization: float = 0.85
    catch_up_s: float = 300
    restart_s: float = 30
    max_up_factor: float = 4
    max_down_factor: float = 0.5
    down_window_s: float = 900
    settle_s: float = 30
    block_s: float = 1800
    commit_interval_s: float = 10
    max_commit_interval_s: float = 300
    assumed_per_s: float | None = None

    def __post_init__(self) -> None:
        positive = ("catch_up_s", "down_window_s", "settle_s", "block_s", "commit_interval_s")
        bounds = {
            **dict.fromkeys(positive, _POSITIVE),
            "min_replicas": _Bounds(at_least=1),
            "max_replicas": _Bounds(at_least=self.min_replicas),
            "target_utilization": _Bounds(above=0, at_most=1),
            "max_utilization": _Bounds(above=self.target_utilization, at_most=1),
            "restart_s": _Bounds(),
            "max_up_factor": _Bounds(above=1),
            "max_down_factor": _Bounds(at_most=1),
            "max_commit_interval_s": _Bounds(at_least=self.commit_interval_s),
        }
        _check("scaling", self, bounds)
        if self.assumed_per_s is not None:
            _check("scaling", self, {"assumed_per_s": _POSITIVE})


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Both halves of the one decision."""

    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a number must keep; `above` below 0 means no such bound."""

    above: float = -1
    at_least: float = 0
    at_most: float = math.inf

    def hold(self, value: float) -> bool:
        return math.isfinite(value) and value > self.above and self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        lower = f"above {_shown(self.above)}" if self.above >= 0 else f"at least {_shown(self.at_least)}"
        return lower if self.at_most == math.inf else f"{lower} and at most {_shown(self.at_most)}"


_POSITIVE: Final = _Bounds(above=0)


def _check(section: str, settings: DegradationConfig | ScalingConfig, bounds: Mapping[str, _Bounds]) -> None:
    for name, bound in bounds.items():
        value = getattr(settings, name)
        if not bound.hold(value):
            raise SpecError(f"spec.{section}.{yaml_name(name)}", _shown(value), str(bound))


def check_levels(levels: Mapping[Level, LevelThresholds]) -> None:
    """Check that there are four levels, each with its exits below its entries and above the level below.

    Raises:
        SpecError: They are not; with the path in YAML of the first figure that is wrong.
    """
    expected = sorted(set(Level) - {Level.NORMAL})
    if sorted(levels) != expected:
        found = ", ".join(level_yaml_name(level) for level in levels) or "none"
        raise SpecError(LEVELS_PATH, found, ", ".join(level_yaml_name(level) for level in expected))
    for level, thresholds in levels.items():
        for trigger in TRIGGERS:
            _check_band(level, trigger, getattr(thresholds, f"enter_{trigger}"), getattr(thresholds, f"exit_{trigger}"))
    for lower, higher in pairwise(expected):
        for trigger in TRIGGERS:
            _check_order(trigger, lower, higher, levels)


def _check_band(level: Level, trigger: str, entry: float, leave: float) -> None:
    if not entry > 0:
        raise SpecError(_path(level, f"enter_{trigger}"), _shown(entry), "above 0")
    if trigger == "memory_ratio" and entry > 1:
        raise SpecError(_path(level, f"enter_{trigger}"), _shown(entry), "at most 1")
    if not 0 < leave <= EXIT_TOLERATED * entry:
        most = _shown(EXIT_AT_MOST * entry)
        expected = f"above 0 and at least 30 % below the entry {_shown(entry)}, at most {most}"
        raise SpecError(_path(level, f"exit_{trigger}"), _shown(leave), expected)


def _check_order(trigger: str, lower: Level, higher: Level, levels: Mapping[Level, LevelThresholds]) -> None:
    for side in ("enter", "exit"):
        below, above = (getattr(levels[level], f"{side}_{trigger}") for level in (lower, higher))
        if not below < above:
            expected = f"above {_shown(below)}, that of {level_yaml_name(lower)}"
            raise SpecError(_path(higher, f"{side}_{trigger}"), _shown(above), expected)


def _path(level: Level, name: str) -> str:
    return f"{LEVELS_PATH}.{level_yaml_name(level)}.{yaml_name(name)}"


def _shown(value: float) -> str:
    """Write a number as people do: 1000000 and not 1e+06, 0.63 and not 0.6299999999999999."""
    return f"{value:.15g}"


def level_yaml_name(level: Level) -> str:
    """Return a level's name as YAML has it: `CIRCUIT_BREAK` is `circuitBreak`."""
    return yaml_name(level.name.lower())


def yaml_name(name: str) -> str:
    """Return a setting's name as YAML has it: `dwell_up_s` is `dwellUpSeconds`."""
    words = name.split("_")
    if words[-1] == "s":
        words[-1] = "second" if words[-2:-1] == ["per"] else "seconds"
    return words[0] + "".join(word.capitalize() for word in words[1:])
