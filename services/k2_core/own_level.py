"""The level to which a service raises itself because its own memory runs out, before any controller can see it.

It lowers only what it raised: a service acts on the greater of this and what the control topic says. It never stops
itself: level 4 is left to the controller, which tries out whether stopping helped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from k2_core.memory import memory_ratio
from k2_core.policy.thresholds import DegradationConfig, Mode
from k2_core.types import Level

LOOK_EVERY_S: Final = 1.0
HIGHEST: Final = Level.AGGRESSIVE


class OwnLevel:
    """Watches this process' memory.

    Args:
        config: The thresholds; nothing is raised unless the mode is Auto and memory is watched.
        memory: Returns the share of the limit in use, None if it is not known: the level stays then.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: DegradationConfig,
        memory: Callable[[], float | None] = memory_ratio,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._levels = config.levels
        self._watching = config.mode is Mode.AUTO and config.watch_memory
        self._memory = memory
        self._clock = clock
        self._look_at = clock()
        self._level = Level.NORMAL

    def level(self) -> Level:
        """Return the level; may be asked as often as one likes."""
        if self._watching and self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_EVERY_S
            ratio = self._memory()
            if ratio is not None:
                self._level = self._next(ratio)
        return self._level

    def _next(self, ratio: float) -> Level:
        crossed = [level for level, one in self._levels.items() if ratio >= one.enter_memory_ratio]
        entered = min(max(crossed, default=Level.NORMAL), HIGHEST)
        if entered > self._level:
            return entered
        if self._level is not Level.NORMAL and ratio < self._levels[self._level].exit_memory_ratio:
            return Level(self._level - 1)
        return self._level
