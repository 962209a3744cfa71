"""What is owed at the end, and for how long that is waited for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from k2_cli.scrape import Sample
from k2_cli.settling import LOOK_EVERY_S, PATIENCE_S, SILENCE_S, owed, settle


def sink(ledger: float, *, level: float = 0, unread: float = 0) -> Sample:
    figures = {
        "k2_sink_ledger_open_records": ledger,
        "k2_degradation_level": level,
        "k2_sink_unread_lag_records": unread,
    }
    return Sample({(name, ()): value for name, value in figures.items()})


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        pytest.param(Sample({}), 0, id="one that has not begun"),
        pytest.param(sink(3), 3, id="what levels put off"),
        pytest.param(sink(0, level=1, unread=9), 0, id="what is read to the end and taken in"),
        pytest.param(sink(1, level=2, unread=9), 10, id="what may be put off when it is read"),
        pytest.param(sink(1, level=4, unread=9), 10, id="what one that stands still does not read"),
    ],
)
def test_owed(sample: Sample, expected: int) -> None:
    assert owed(sample) == expected


class Clock:
    """Time that passes by waiting only."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def settled(clock: Clock, said: list[str], *looks: Mapping[str, Sample | None], slow_s: float = 0.0) -> tuple[int, int]:
    """What is left, and how often sinks were looked at; the last of the looks is all that they say from then on."""
    seen = 0

    def look() -> Mapping[str, Sample | None]:
        nonlocal seen
        seen += 1
        clock.now_s += slow_s
        return looks[min(seen, len(looks)) - 1]

    return settle(look, said.append, lambda: clock.now_s, clock.sleep), seen


def test_it_waits_until_nothing_is_owed() -> None:
    clock, said = Clock(), list[str]()
    looks = [{"sink-0": sink(left), "sink-1": sink(left)} for left in (5, 5, 2, 0, 7)]
    assert settled(clock, said, *looks) == (0, 4)
    assert clock.now_s == pytest.approx(3 * LOOK_EVERY_S)
    assert len(said) == 1
    assert "10 records" in said[0]


@pytest.mark.parametrize("samples", [pytest.param({}, id="no sinks"), pytest.param({"sink-0": sink(0)}, id="one")])
def test_where_nothing_is_owed_nothing_is_said_and_nobody_waits(samples: Mapping[str, Sample | None]) -> None:
    clock, said = Clock(), list[str]()
    assert settled(clock, said, samples) == (0, 1)
    assert (clock.now_s, said) == (0.0, [])


def test_patience_ends_and_what_is_left_is_returned() -> None:
    clock = Clock()
    assert settled(clock, [], {"sink-0": sink(5)})[0] == 5
    assert clock.now_s == pytest.approx(PATIENCE_S, abs=2 * LOOK_EVERY_S)


def test_one_that_does_not_answer_is_asked_again() -> None:
    clock, said = Clock(), list[str]()
    looks: list[Mapping[str, Sample | None]] = [{"sink-0": None}, {"sink-0": sink(5)}, {"sink-0": None}]
    assert settled(clock, said, *looks, {"sink-0": sink(0)}, slow_s=1.0) == (0, 4)
    assert len(said) == 1


def test_one_that_never_answers_is_not_waited_for_for_long() -> None:
    clock, said = Clock(), list[str]()
    assert settled(clock, said, {"sink-0": None, "sink-1": sink(0)}, slow_s=1.0)[0] == 0
    assert clock.now_s == pytest.approx(SILENCE_S, abs=2.0)
    assert said == []


def test_one_that_falls_silent_owes_what_it_owed() -> None:
    assert settled(Clock(), [], {"sink-0": sink(5)}, {"sink-0": None})[0] == 5


def test_one_that_has_ended_is_not_waited_for() -> None:
    assert settled(Clock(), [], {"sink-0": sink(5), "sink-1": sink(0)}, {"sink-1": sink(0)}) == (0, 2)
