"""A sink that stands still to write and commit, second by second: no level while it keeps up, a level soon if not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig
from k2_core.types import Level
from support.policy import Driver

INTERVAL_S = 10
TICKS = 10
"""Of each second."""


def looks(
    offered_per_s: Callable[[float], float], reads_per_s: float, stands_s: float, seed: int, seconds: int
) -> Iterator[Observation]:
    """Yield what one look each second sees of a sink that reads, and stands still at each interval's end."""
    chance = random.Random(seed)
    end = position = told = seen = 0.0
    told_at = standing = stood_until = noise = 0.0
    phase = chance.random()
    for tick in range(seconds * TICKS):
        now = tick / TICKS
        if tick % TICKS == 0:
            noise = chance.uniform(0.9, 1.1)
        end += offered_per_s(now) * noise / TICKS
        if now % INTERVAL_S < INTERVAL_S - stands_s:
            position = min(end, position + reads_per_s / TICKS)
            if now >= INTERVAL_S and now % INTERVAL_S == 0:
                stood_until = now
            if now - told_at >= 1 or now % INTERVAL_S == 0:
                told, told_at = position, now
                standing = stands_s if now >= INTERVAL_S and now - stood_until < max(stands_s, 1) else 0.0
        if tick % TICKS == int(phase * TICKS):
            yield Observation(
                offered_per_s=end - seen if now >= 1 else None,  # the first look knows no rates
                unread_records=int(end - told),
                positions_age_s=now - told_at,
                standing_s=standing,
            )
            seen = end


def levels(offered_per_s: Callable[[float], float], stands_s: float, seed: int, seconds: int) -> list[tuple[int, int]]:
    """Return for each second its number and the level then."""
    driver = Driver(PolicyConfig(DegradationConfig(Mode.AUTO)), every_s=1)
    found = []
    for second, seen in enumerate(looks(offered_per_s, 40_000, stands_s, seed, seconds)):
        decision = driver.look(
            offered_per_s=seen.offered_per_s,
            accepted_per_s=seen.offered_per_s,
            unread_records=seen.unread_records,
            positions_age_s=seen.positions_age_s,
            standing_s=seen.standing_s,
        )
        found.append((second, int(decision.level.applied)))
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("per_s", "stands_s"), [(100, 0.2), (8_000, 2.0), (16_000, 3.0), (20_000, 4.0)])
def test_a_sink_that_keeps_up_is_at_level_0_however_long_it_stands(per_s: float, stands_s: float, seed: int) -> None:
    seen = levels(lambda _: per_s, stands_s, seed, 1_800)
    assert {level for _, level in seen} == {Level.NORMAL}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("stands_s", [0.2, 2.0, 4.0])
def test_a_burst_beyond_it_shows_within_5_seconds(stands_s: float, seed: int) -> None:
    """At any moment of the interval, even while it stands still and tells nothing."""
    begin = 600 + random.Random(seed).uniform(0, INTERVAL_S)
    seen = levels(lambda at: 15_000 if at < begin else 60_000, stands_s, seed, 660)
    assert dict(seen)[599] == Level.NORMAL
    assert max(level for second, level in seen if second <= begin + 5) >= Level.SOFT
