"""The level table, dwell, hysteresis, the half-open trial and recovery, through whole steps of the policy."""

from __future__ import annotations

import pytest

from k2_core.policy.degradation import crossed_level
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import DEFAULT_LEVELS, DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.types import Level
from support.policy import Driver

CONFIG = PolicyConfig(DegradationConfig(Mode.AUTO, position_interval_s=0, in_hand_s=0))


@pytest.fixture
def driver() -> Driver:
    """Scaling is off: the level alone."""
    return Driver(CONFIG)


@pytest.mark.parametrize(
    ("unread", "age_s", "memory", "level"),
    [
        (999, 9.9, 0.69, 0),
        (1_000, 0, 0, 1),
        (0, 10, 0, 1),
        (0, 0, 0.7, 1),
        (10_000, 0, 0, 2),
        (0, 30, 0, 2),
        (0, 0, 0.8, 2),
        (100_000, 0, 0, 3),
        (0, 120, 0, 3),
        (0, 0, 0.9, 3),
        (1_000_000, 0, 0, 4),
        (0, 86_400, 0, 3),
        (0, 0, 0.95, 4),
    ],
)
def test_the_table(unread: float, age_s: float, memory: float, level: int) -> None:
    assert crossed_level(DEFAULT_LEVELS, unread, age_s, memory) == level


def test_a_draining_backlog_is_no_emergency() -> None:
    assert crossed_level(DEFAULT_LEVELS, 5_000_000, 0, 0, 0) is Level.AGGRESSIVE
    assert crossed_level(DEFAULT_LEVELS, 5_000_000, 0, 0.95, 0) is Level.CIRCUIT_BREAK


def test_what_would_only_be_put_off_never_stops_what_is_taken_in(driver: Driver) -> None:
    driver.look(unread_records=200_000)
    for waiting in (2_000_000, 1_500_001):  # it grows, and only what is taken in counts
        for seconds in range(60):
            driver.look(unread_records=2_500_000 + seconds * 1_000, waiting_records=waiting + seconds * 1_000)
    assert driver.levels() == [3]
    driver.looks(60, unread_records=2_600_000, waiting_records=1_600_000)
    assert driver.levels() == [3, 4]


class TestRise:
    def test_the_first_crossing_acts_at_once(self, driver: Driver) -> None:
        assert driver.look(unread_records=1_000).level.why is Reason.FIRST_CROSSING
        assert driver.levels() == [1]

    def test_it_may_jump_to_what_is_crossed(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=130)
        assert driver.levels() == [3]

    def test_it_may_jump_to_what_is_forecast(self, driver: Driver) -> None:
        driver.look()
        decision = driver.look(unread_records=20_000)
        assert decision.level.crossed is Level.GRACEFUL
        assert decision.level.why is Reason.FORECAST
        assert driver.levels() == [0, 3]

    def test_a_forecast_never_opens_the_circuit(self, driver: Driver) -> None:
        driver.look()
        driver.look(unread_records=900_000)
        assert driver.levels() == [0, 3]

    def test_a_forecast_alone_raises_nothing(self, driver: Driver) -> None:
        driver.look()
        assert driver.look(unread_records=999).signals.forecast_records > 1_000
        assert driver.levels() == [0]

    def test_a_further_level_waits_for_the_dwell(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=10)
        decision = driver.looks(15, oldest_unread_age_s=40)
        assert decision.level.held_by == (Reason.DWELL_UP,)
        assert driver.look(oldest_unread_age_s=40).level.why is Reason.FURTHER_CROSSING
        assert driver.levels() == [1, 2]

    @pytest.mark.parametrize(
        "seen", [{"downstream_failing": True}, {"memory_ratio": 0.96}], ids=["downstream", "memory"]
    )
    def test_level_4_without_lag(self, driver: Driver, seen: dict[str, float]) -> None:
        driver.look(**seen)
        assert driver.levels() == [4]

    def test_a_million_that_drains_stays_at_3(self, driver: Driver) -> None:
        for left in range(40):
            driver.look(unread_records=3_000_000 - 20_000 * left)
        assert driver.levels() == [3]

    def test_a_million_that_stays_opens_the_circuit_after_the_dwell(self, driver: Driver) -> None:
        driver.looks(25, unread_records=3_000_000)
        assert driver.levels() == [3, 4]

    def test_a_scale_up_under_way_holds_further_levels_for_a_while_but_not_memory(self) -> None:
        config = PolicyConfig(CONFIG.degradation, ScalingConfig(Mode.AUTO, assumed_per_s=100))
        driver = Driver(config, replicas=1)
        pending = {"replicas": 4, "ready_replicas": 1, "oldest_unread_age_s": 40}
        first = driver.look(oldest_unread_age_s=10, offered_per_s=400.0)
        assert (first.level.applied, first.replicas.applied) == (1, 4)
        decision = driver.looks(25, **pending)
        assert decision.level.held_by == (Reason.SCALE_UP_SETTLING,)
        assert driver.levels() == [1]
        driver.look(**{**pending, "memory_ratio": 0.91})
        assert driver.levels() == [1, 3]

    def test_a_scale_up_that_never_settles_holds_no_longer_than_allowed(self) -> None:
        config = PolicyConfig(CONFIG.degradation, ScalingConfig(Mode.AUTO, assumed_per_s=100))
        driver = Driver(config, replicas=1)
        driver.look(oldest_unread_age_s=10, offered_per_s=400.0)
        driver.looks(25, replicas=4, ready_replicas=1, oldest_unread_age_s=40)
        assert driver.levels() == [1]
        driver.look(replicas=4, ready_replicas=1, oldest_unread_age_s=40)
        assert driver.levels() == [1, 2]

    def test_the_pause_of_a_rebalance_raises_nothing_within_its_grace(self, driver: Driver) -> None:
        driver.looks(10, rebalancing=True, unread_records=50_000)
        assert driver.looks(20, unread_records=50_000).level.held_by == (Reason.REBALANCING,)
        assert driver.levels() == [0]
        driver.look(unread_records=50_000)
        assert driver.levels() == [0, 2]

    def test_a_group_that_never_settles_has_no_longer_grace(self, driver: Driver) -> None:
        driver.looks(35, rebalancing=True, oldest_unread_age_s=40)
        assert driver.levels() == [0, 2]

    def test_a_failing_downstream_has_no_grace(self, driver: Driver) -> None:
        driver.look(rebalancing=True, downstream_failing=True)
        assert driver.levels() == [4]


class TestRecovery:
    def test_one_level_at_a_time_each_after_the_dwell(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=130)
        for level in (2, 1, 0):
            assert driver.looks(175).level.held_by == (Reason.DWELL_DOWN,)
            assert driver.look().level.why is Reason.RECOVERED
            assert driver.levels()[-1] == level
        assert driver.levels() == [3, 2, 1, 0]

    def test_inside_the_band_nothing_moves(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=10)
        for age_s in (7.1, 9.9, 29.0):
            decision = driver.looks(600, oldest_unread_age_s=age_s)
        assert decision.level.held_by == (Reason.INSIDE_BAND,)
        assert driver.levels() == [1]

    @pytest.mark.parametrize(
        "seen",
        [{"unread_records": 700}, {"oldest_unread_age_s": 7.0}, {"memory_ratio": 0.5}],
        ids=["records", "age", "memory"],
    )
    def test_each_signal_must_be_below_its_exit(self, driver: Driver, seen: dict[str, float]) -> None:
        driver.look(oldest_unread_age_s=10)
        driver.looks(600, **seen)
        assert driver.levels() == [1]

    def test_calm_starts_anew_when_a_signal_comes_back(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=10)
        driver.looks(170)
        driver.look(oldest_unread_age_s=8)
        driver.looks(175)
        assert driver.levels() == [1]
        driver.looks(10)
        assert driver.levels() == [1, 0]

    def test_a_recovery_that_is_taken_back_doubles_the_dwell_twice_at_most(self, driver: Driver) -> None:
        for dwell_s in (180, 360, 720, 720):
            driver.look(oldest_unread_age_s=10)
            driver.looks(dwell_s - 5)
            assert driver.levels()[-1] == 1
            driver.look()
            assert driver.levels()[-1] == 0

    def test_relapses_are_forgotten_in_time(self, driver: Driver) -> None:
        for _ in range(2):
            driver.look(oldest_unread_age_s=10)
            driver.looks(400)
        assert driver.state.level.relapses == 1
        driver.looks(720)
        assert driver.state.level.relapses == 0


class TestCircuit:
    def test_after_the_dwell_it_drains_on_trial_and_then_recovers(self, driver: Driver) -> None:
        driver.look(downstream_failing=True)
        assert driver.looks(175, downstream_failing=True).level.held_by == (Reason.DWELL_DOWN,)
        trial = driver.look(downstream_failing=True)
        assert (trial.level.why, trial.level.probing) == (Reason.CIRCUIT_HALF_OPEN, True)
        assert driver.looks(55).level.held_by == (Reason.PROBING,)
        assert driver.look().level.why is Reason.PROBE_PASSED
        driver.looks(3 * 185)
        assert driver.levels() == [4, 3, 2, 1, 0]

    def test_a_trial_that_fails_opens_again_and_the_next_comes_as_soon(self, driver: Driver) -> None:
        for _ in range(3):
            driver.looks(240, downstream_failing=True)
            assert driver.levels()[-2:] == [4, 3]
            assert driver.look(downstream_failing=True).level.why is Reason.PROBE_FAILED
            driver.now_s -= driver.every_s
        assert driver.levels() == [4, 3, 4, 3, 4, 3, 4]

    def test_a_trial_that_fills_the_memory_ends_at_once(self, driver: Driver) -> None:
        driver.looks(185, downstream_failing=True)
        assert driver.look(memory_ratio=0.96).level.why is Reason.PROBE_FAILED

    @pytest.mark.parametrize(
        ("seen", "level"),
        [
            ({"unread_records": 1_500_000}, 4),
            ({"unread_records": 750_000}, 4),
            ({"unread_records": 690_000}, 3),
            ({"memory_ratio": 0.7}, 4),
        ],
        ids=["still a million", "inside the band", "below the exit", "memory inside the band"],
    )
    def test_the_verdict_when_lag_stands(self, driver: Driver, seen: dict[str, float], level: int) -> None:
        driver.look()
        driver.looks(185, **{**seen, "downstream_failing": True})
        driver.looks(65, **seen)
        assert driver.levels()[-1] == level

    def test_a_trial_that_drains_passes_with_any_lag(self, driver: Driver) -> None:
        driver.looks(185, unread_records=3_000_000, downstream_failing=True)
        for left in range(14):
            driver.look(unread_records=3_000_000 - 50_000 * left)
        assert driver.levels() == [4, 3]
        assert not driver.state.level.probing


class TestMissing:
    @pytest.mark.parametrize(
        "name", ["unread_records", "oldest_unread_age_s", "offered_per_s", "downstream_failing", "memory_ratio"]
    )
    def test_a_missing_figure_holds_the_level_both_ways(self, driver: Driver, name: str) -> None:
        driver.look(oldest_unread_age_s=10)
        for _ in range(100):
            decision = driver.look(**{"oldest_unread_age_s": 1.0, "unread_records": 5_000_000, name: None})
        assert decision.level.held_by == (Reason.METRICS_MISSING,)
        assert name in decision.missing
        driver.looks(600, **{name: None})
        assert driver.levels() == [1]

    def test_calm_neither_counts_nor_is_lost_over_single_missing_looks(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=10)
        for _ in range(35):
            driver.look()
            driver.look(unread_records=None)
        assert driver.levels() == [1]
        driver.look()
        assert driver.levels() == [1, 0]

    def test_calm_starts_anew_after_a_long_gap(self, driver: Driver) -> None:
        driver.look(oldest_unread_age_s=10)
        driver.looks(170)
        driver.now_s += 3_600
        driver.looks(180)
        assert driver.levels() == [1]
        driver.look()
        assert driver.levels() == [1, 0]


class TestStopping:
    """Nothing comes in any more: what a level puts off, or stands still before, would keep the stop waiting."""

    def test_the_circuit_is_left_at_once_and_stays_left(self, driver: Driver) -> None:
        driver.look(downstream_failing=True)
        decision = driver.look(downstream_failing=True, stopping=True)
        assert (decision.level.applied, decision.level.why) == (Level.SOFT, Reason.STOPPING)
        assert decision.level.crossed is Level.CIRCUIT_BREAK
        driver.looks(600, downstream_failing=True, stopping=True)
        assert driver.levels() == [4, 1]

    @pytest.mark.parametrize("level", [Level.GRACEFUL, Level.AGGRESSIVE])
    def test_a_level_that_defers_is_left_too(self, driver: Driver, level: Level) -> None:
        unread = DEFAULT_LEVELS[level].enter_unread_records
        driver.look(unread_records=unread)
        driver.look(unread_records=unread, stopping=True)
        assert driver.levels() == [level, 1]

    @pytest.mark.parametrize("level", [Level.NORMAL, Level.SOFT])
    def test_one_that_defers_nothing_stays_and_none_is_entered(self, driver: Driver, level: Level) -> None:
        driver.look(unread_records=1_000 * level)
        driver.looks(600, unread_records=2_000_000, oldest_unread_age_s=900, memory_ratio=0.99, stopping=True)
        assert driver.levels() == [level]

    def test_figures_that_are_missing_hold_nothing(self, driver: Driver) -> None:
        driver.look(downstream_failing=True)
        decision = driver.look(unread_records=None, stopping=True)
        assert (decision.level.applied, decision.level.why) == (Level.SOFT, Reason.STOPPING)
        assert decision.missing == ("unread_records",)

    def test_a_trial_ends(self, driver: Driver) -> None:
        driver.look(downstream_failing=True)
        assert driver.looks(185).level.probing
        assert not driver.look(stopping=True).level.probing
        assert not driver.look().level.probing
        assert driver.levels()[-1] == 1

    def test_a_pipeline_that_runs_on_goes_by_the_rules_again(self, driver: Driver) -> None:
        driver.look(unread_records=1_000)
        driver.looks(170)
        driver.look(stopping=True)
        driver.looks(170)  # calm before that does not count
        assert driver.levels() == [1]
        driver.looks(15)
        assert driver.levels() == [1, 0]

    def test_a_level_that_is_only_recommended_falls_too(self) -> None:
        config = PolicyConfig(DegradationConfig(Mode.RECOMMEND, position_interval_s=0))
        driver = Driver(config)
        driver.look(downstream_failing=True)
        decision = driver.look(stopping=True)
        assert (decision.level.applied, decision.level.recommended) == (Level.NORMAL, Level.SOFT)
