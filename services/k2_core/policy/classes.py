"""Which priority class of symbols each level defers: what a level means for a record.

Used by the sink, which defers, and by whoever explains a level to people. Never decides a level. Pure.
"""

from __future__ import annotations

import enum
from typing import Final

from k2_core.types import Level


class Priority(enum.IntEnum):
    """How soon a symbol may be deferred: the smaller, the sooner."""

    LOW = 0
    NORMAL = 1
    CRITICAL = 2


_DEFERRED_BELOW: Final = {
    Level.NORMAL: Priority.LOW,
    Level.SOFT: Priority.LOW,
    Level.GRACEFUL: Priority.NORMAL,
    Level.AGGRESSIVE: Priority.CRITICAL,
}

OWES_NOTHING_NEW: Final = max(level for level, priority in _DEFERRED_BELOW.items() if priority is Priority.LOW)
"""The highest level at which everything is taken in, and what was put off before is drained."""


def is_deferred(level: Level, priority: Priority) -> bool:
    """Return whether records of a class wait at a level; at CIRCUIT_BREAK all do, in the log."""
    return level is Level.CIRCUIT_BREAK or priority < _DEFERRED_BELOW[level]
