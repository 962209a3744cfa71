"""Which partitions are held back when, as steps of a clock."""

from __future__ import annotations

from collections.abc import Set

import pytest

from k2_core.types import Level, Partition, TopicName
from k2_sink.precedence import BEHIND_RECORDS, HELD_AT_MOST_S, READ_AT_LEAST_S, WORTH_RECORDS, Precedence
from k2_sink.protocol import LogPartition

TOPIC = TopicName("t")
FIRST, LATER = (TOPIC, Partition(0)), (TOPIC, Partition(1))
KNOWN = {FIRST: False, LATER: True}
MUCH = 5 * WORTH_RECORDS


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def precedence(clock: Clock) -> Precedence:
    return Precedence(clock)


def ask(
    precedence: Precedence,
    first: int,
    later: int,
    level: Level = Level.AGGRESSIVE,
    waits: dict[LogPartition, bool] | None = None,
    *,
    more: bool = True,
) -> Set[LogPartition]:
    return precedence.held(level, KNOWN if waits is None else waits, {FIRST: first, LATER: later}, more=more)


def test_what_waits_is_held_until_the_rest_is_read(precedence: Precedence) -> None:
    assert ask(precedence, MUCH, MUCH, more=False) == {LATER}  # the last read was before
    assert ask(precedence, MUCH, MUCH) == {LATER}
    assert ask(precedence, WORTH_RECORDS, MUCH, more=False) == {LATER}  # fetching takes its time
    assert ask(precedence, 1, 0) == {LATER}  # what a held one has is not known as well
    assert ask(precedence, 1, MUCH, more=False) == frozenset()


@pytest.mark.parametrize("level", [Level.NORMAL, Level.SOFT, Level.CIRCUIT_BREAK])
def test_nothing_is_held_at_a_level_that_does_not_defer_by_key(precedence: Precedence, level: Level) -> None:
    assert ask(precedence, MUCH, MUCH, level) == frozenset()


def test_a_small_backlog_is_not_worth_it(precedence: Precedence) -> None:
    assert ask(precedence, MUCH, WORTH_RECORDS - 1) == frozenset()
    assert ask(precedence, BEHIND_RECORDS - 1, MUCH) == frozenset()
    assert ask(precedence, BEHIND_RECORDS, WORTH_RECORDS) == {LATER}


def test_what_is_not_known_comes_first(precedence: Precedence) -> None:
    assert ask(precedence, MUCH, MUCH, waits={}) == frozenset()
    assert ask(precedence, MUCH, MUCH, waits={LATER: True}) == {LATER}
    assert ask(precedence, MUCH, MUCH, waits={LATER: False}) == frozenset()


def test_what_was_learned_at_one_level_is_forgotten_at_another(precedence: Precedence) -> None:
    assert ask(precedence, MUCH, MUCH) == {LATER}
    assert ask(precedence, MUCH, MUCH, Level.GRACEFUL, waits={}) == frozenset()


def test_it_does_not_last_for_ever_and_what_waits_is_read_for_a_while_before_the_next(
    precedence: Precedence, clock: Clock
) -> None:
    found = []
    for _ in range(200):
        found.append(bool(ask(precedence, MUCH, MUCH)))
        clock.now_s += 0.1
    runs = [
        (held, found[at:].index(not held)) for at, held in enumerate(found[:-80]) if at == 0 or found[at - 1] != held
    ]
    assert {held for held, _ in runs} == {True, False}
    for held, steps in runs:
        expected_s = HELD_AT_MOST_S if held else READ_AT_LEAST_S
        assert steps * 0.1 == pytest.approx(expected_s, abs=0.11)
