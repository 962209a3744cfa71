"""Slope, forecast, draining, gaps and the policy's own time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from k2_core.policy.signals import GAP_S, NOISE, Signals, SignalState, read_signals
from k2_core.policy.thresholds import DegradationConfig
from support.policy import QUIET, START_S

CONFIG = DegradationConfig(position_interval_s=0, in_hand_s=0)


def seen(*looks: tuple[float, int | None], config: DegradationConfig = CONFIG) -> tuple[SignalState, Signals]:
    """Look at these times at so many unread records."""
    state = SignalState()
    for at_s, unread in looks:
        state, signals = read_signals(config, state, replace(QUIET, unread_records=unread), START_S + at_s)
    return state, signals


def test_a_growing_lag_is_forecast() -> None:
    _, signals = seen((0, 0), (5, 500))
    assert signals.slope_per_s == pytest.approx(100)
    assert signals.forecast_records == pytest.approx(500 + 30 * 100)
    assert not signals.draining


def test_a_shrinking_lag_is_not_forecast_and_drains() -> None:
    _, signals = seen((0, 10_000), (5, 9_000))
    assert signals.forecast_records == 9_000
    assert signals.draining


def test_a_lag_that_hardly_shrinks_does_not_drain() -> None:
    _, signals = seen((0, 1_000_000), (5, 999_995))
    assert signals.slope_per_s < 0
    assert not signals.draining


def test_a_gap_makes_slopes_start_anew() -> None:
    state, signals = seen((0, 0), (5, 500), (5 + GAP_S + 1, 100_000))
    assert signals.gap
    assert signals.calm_s == 0
    assert state.slope_per_s is None


def test_what_is_missing_keeps_the_figures_and_is_named() -> None:
    state, signals = seen((0, 0), (5, 500), (10, None))
    assert signals.missing == ("unread_records",)
    assert signals.unread_records == 500
    assert state.known_at_s == 5
    assert state.read_per_s is None


def test_the_slope_across_a_missing_look_is_over_its_whole_time() -> None:
    _, signals = seen((0, 0), (5, None), (10, 500))
    assert signals.slope_per_s == pytest.approx(50)


@pytest.mark.parametrize(
    ("told_s", "unread", "counts"),
    [
        pytest.param(0.2, 100, 16, id="what came since positions were told, and what is in hand"),
        pytest.param(3.0, 450, 30, id="however long ago"),
        pytest.param(0.2, 60, 0, id="never below nothing"),
        pytest.param(None, 200, 20, id="a position interval where nobody knows"),
        pytest.param(math.nan, 200, 20, id="nor believes"),
    ],
)
def test_unread_on_paper_is_taken_off(told_s: float | None, unread: int, counts: float) -> None:
    look = replace(QUIET, positions_age_s=told_s, unread_records=unread, offered_per_s=100.0)
    _, signals = read_signals(DegradationConfig(), SignalState(), look, START_S)
    assert signals.unread_records == pytest.approx(counts)


@pytest.mark.parametrize(
    ("told_s", "stood_s", "counts"),
    [
        pytest.param(0.2, 2.0, 676, id="what came while sinks stood still, just before they told"),
        pytest.param(2.5, 2.0, 400, id="however long ago they did"),
        pytest.param(0.2, 60.0, 316, id="of no more than 5 s"),
        pytest.param(0.2, math.nan, 916, id="nothing where nobody believes"),
        pytest.param(None, 2.0, 820, id="nor where a sink does not tell"),
    ],
)
def test_what_came_while_sinks_stood_still_is_taken_off(told_s: float | None, stood_s: float, counts: float) -> None:
    look = replace(QUIET, positions_age_s=told_s, standing_s=stood_s, unread_records=1_000, offered_per_s=100.0)
    _, signals = read_signals(DegradationConfig(), SignalState(), look, START_S)
    assert signals.unread_records == pytest.approx(counts)


def test_what_comes_a_little_faster_than_before_is_noise() -> None:
    steady = replace(QUIET, positions_age_s=1.0, standing_s=2.0, unread_records=42_000, offered_per_s=10_000.0)
    state, _ = read_signals(DegradationConfig(), SignalState(), steady, START_S)
    _, signals = read_signals(DegradationConfig(), state, replace(steady, offered_per_s=12_000.0), START_S + 1)
    assert signals.unread_records == pytest.approx(0)


def test_a_bursts_own_rate_hides_nothing_of_it() -> None:
    config = DegradationConfig()
    state, _ = read_signals(config, SignalState(), QUIET, START_S)
    burst = replace(QUIET, offered_per_s=100_000.0, unread_records=30_000)
    _, signals = read_signals(config, state, burst, START_S + 5)
    smoothed = signals.offered_per_s
    assert smoothed is not None
    assert signals.unread_records == pytest.approx(30_000 - 1.5 * NOISE * smoothed)
    assert 1.5 * NOISE * smoothed < 30_000


def test_a_clock_that_is_set_back_does_not_turn_time() -> None:
    state, signals = seen((1_000, 0), (400, 500), (405, 500))
    assert signals.time_s == 5
    assert state.now_s == START_S + 405


def test_two_looks_at_one_time_have_no_slope() -> None:
    _, signals = seen((0, 0), (0, 500))
    assert signals.slope_per_s == 0


def test_memory_counts_only_where_it_is_watched() -> None:
    blind = replace(QUIET, memory_ratio=None)
    assert read_signals(CONFIG, SignalState(), blind, START_S)[1].missing == ("memory_ratio",)
    unwatched = DegradationConfig(watch_memory=False)
    assert read_signals(unwatched, SignalState(), blind, START_S)[1].missing == ()


def test_without_rates_read_the_level_still_has_what_it_needs() -> None:
    state, signals = read_signals(CONFIG, SignalState(), replace(QUIET, accepted_per_s=None), START_S)
    assert signals.missing == ()
    assert state.read_per_s is None
