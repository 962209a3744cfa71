"""A service that runs out of memory raises itself at once, and lowers only what it raised."""

from __future__ import annotations

import pytest

from k2_core.own_level import LOOK_EVERY_S, OwnLevel
from k2_core.policy.thresholds import DegradationConfig, Mode
from k2_core.types import Level


class Process:
    """A process whose memory and clock a test sets."""

    def __init__(self, mode: Mode = Mode.AUTO, *, watch: bool = True) -> None:
        self.ratio: float | None = 0.1
        self.now_s = 100.0
        config = DegradationConfig(mode=mode, watch_memory=watch)
        self.own = OwnLevel(config, lambda: self.ratio, lambda: self.now_s)

    def at(self, ratio: float | None) -> Level:
        """The level a look later."""
        self.ratio, self.now_s = ratio, self.now_s + LOOK_EVERY_S
        return self.own.level()


@pytest.mark.parametrize(
    ("ratio", "level"),
    [
        (0.69, Level.NORMAL),
        (0.7, Level.SOFT),
        (0.85, Level.GRACEFUL),
        (0.9, Level.AGGRESSIVE),
        (0.99, Level.AGGRESSIVE),
    ],
    ids=["below", "soft", "graceful", "aggressive", "never-stops-itself"],
)
def test_it_enters_at_once_what_is_crossed(ratio: float, level: Level) -> None:
    assert Process().at(ratio) is level


def test_it_leaves_one_level_a_look_below_each_exit() -> None:
    process = Process()
    found = [process.at(ratio) for ratio in (0.91, 0.64, 0.62, 0.62, 0.5, 0.5, 0.48)]
    assert found == [3, 3, 2, 2, 1, 1, 0]


def test_what_is_not_known_changes_nothing() -> None:
    process = Process()
    assert [process.at(0.8), process.at(None)] == [Level.GRACEFUL, Level.GRACEFUL]


def test_it_looks_once_a_second() -> None:
    process = Process()
    assert process.at(0.1) is Level.NORMAL
    process.ratio = 0.9
    process.now_s += LOOK_EVERY_S / 2
    assert process.own.level() is Level.NORMAL
    process.now_s += LOOK_EVERY_S / 2
    assert process.own.level() is Level.AGGRESSIVE


@pytest.mark.parametrize(
    ("mode", "watch"),
    [(Mode.OFF, True), (Mode.RECOMMEND, True), (Mode.AUTO, False)],
    ids=["off", "recommend", "not-watched"],
)
def test_it_does_nothing_unless_it_is_asked_to(mode: Mode, watch: bool) -> None:
    assert Process(mode, watch=watch).at(0.99) is Level.NORMAL
