"""What is owed at the end, and for how long that is waited for."""

from __future__ import annotations

import pytest

from k2_cli.scrape import Sample
from k2_cli.settling import LOOK_EVERY_S, PATIENCE_S, owed, settle


def sink(ledger: float, *, level: float = 0, unread: float = 0) -> Sample:
    figures = {
        "k2_sink_ledger_open_records": ledger,
        "k2_degradation_level": level,
        "k2_sink_unread_lag_records": unread,
    }
    return Sample({(name, ()): value for name, value in figures.items()})


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param([], 0, id="no sinks"),
        pytest.param([None, Sample({})], 0, id="silent ones"),
        pytest.param([sink(3), sink(4)], 7, id="what levels put off"),
        pytest.param([sink(0, level=3, unread=9)], 0, id="what is read to the end anyway"),
        pytest.param([sink(1, level=4, unread=9), sink(2, level=3, unread=9)], 12, id="one that stands still"),
    ],
)
def test_owed(samples: list[Sample | None], expected: int) -> None:
    assert owed(samples) == expected


class Clock:
    """Time that passes by waiting only."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_it_waits_until_nothing_is_owed() -> None:
    clock, said, looks = Clock(), list[str](), iter([5, 5, 2, 0, 7])
    left = settle(lambda: [sink(next(looks))], said.append, lambda: clock.now_s, clock.sleep)
    assert (left, next(looks)) == (0, 7)
    assert clock.now_s == pytest.approx(3 * LOOK_EVERY_S)
    assert len(said) == 1
    assert "5 records" in said[0]


def test_where_nothing_is_owed_nothing_is_said_and_nobody_waits() -> None:
    clock, said = Clock(), list[str]()
    assert settle(lambda: [sink(0)], said.append, lambda: clock.now_s, clock.sleep) == 0
    assert (clock.now_s, said) == (0.0, [])


def test_patience_ends_and_what_is_left_is_returned() -> None:
    clock = Clock()
    assert settle(lambda: [sink(5)], lambda _: None, lambda: clock.now_s, clock.sleep) == 5
    assert clock.now_s == pytest.approx(PATIENCE_S, abs=2 * LOOK_EVERY_S)
