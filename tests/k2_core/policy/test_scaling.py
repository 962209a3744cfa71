"""When replicas change, and everything that holds them, through whole steps of the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from k2_core.policy.decision import PolicyState
from k2_core.policy.reasons import Reason
from k2_core.policy.scaling import NEEDS
from k2_core.policy.scaling_state import ScalingState
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.types import Level
from support.policy import Driver

SCALING = ScalingConfig(Mode.AUTO, assumed_per_s=100)
"""One sink does 100/s; the quiet look offers 100/s to two."""
CONFIG = PolicyConfig(DegradationConfig(position_interval_s=0, in_hand_s=0), SCALING)
BACKLOG: dict[str, Any] = {"unread_records": 5_000, "offered_per_s": 400.0, "accepted_per_s": 200.0}
IDLE: dict[str, Any] = {"offered_per_s": 10.0, "accepted_per_s": 10.0}


def driver(replicas: int = 2, **changed: Any) -> Driver:
    return Driver(PolicyConfig(CONFIG.degradation, replace(SCALING, **changed)), replicas=replicas)


class TestUp:
    def test_a_crossed_threshold_scales_at_once_to_what_the_formula_wants(self) -> None:
        decision = driver().look(**BACKLOG)
        terms = decision.replicas.step.terms
        assert terms is not None
        assert terms.wanted == 6  # (400 / 0.7 + 5000 / 300) / 100
        assert (decision.replicas.applied, decision.replicas.step.why) == (6, Reason.DEMAND_UP)

    def test_high_utilisation_scales_without_a_backlog(self) -> None:
        assert driver().look(offered_per_s=171.0, accepted_per_s=171.0).replicas.applied == 3

    def test_inside_the_band_of_utilisation_nothing_moves(self) -> None:
        """150/s want 3 sinks at 70 %, and 2 are at 75 %, below the maximum of 85 %."""
        decision = driver().looks(3_600, offered_per_s=150.0, accepted_per_s=150.0)
        assert decision.replicas.step.why is Reason.STEADY
        assert decision.replicas.applied == 2

    def test_what_is_shed_is_load(self) -> None:
        shedding = {"offered_per_s": 400.0, "accepted_per_s": 50.0, "shed_per_s": 350.0}
        assert driver().look(**shedding).replicas.applied == 6

    def test_what_is_deferred_is_to_be_caught_up(self) -> None:
        decision = driver().look(**{**BACKLOG, "deferred_records": 60_000})
        assert decision.replicas.applied == 8

    @pytest.mark.parametrize(
        ("changed", "seen", "cap", "reason"),
        [
            ({}, {"active_partitions": 5}, 5, Reason.AT_PARTITIONS),
            ({"max_replicas": 4}, {}, 4, Reason.AT_MAX_REPLICAS),
            ({}, {"commit_duration_s": 50.0}, 3, Reason.AT_COMMIT_TIME),
        ],
        ids=["partitions", "maximum", "commit time"],
    )
    def test_never_beyond_the_cap(self, changed: Any, seen: Any, cap: int, reason: Reason) -> None:
        bounded = driver(**changed)
        assert bounded.look(**{**BACKLOG, **seen}).replicas.applied == cap
        for _ in range(100):
            decision = bounded.look(**{**BACKLOG, "accepted_per_s": 400.0, **seen})
        assert bounded.targets() == [cap]
        assert reason in decision.replicas.step.held_by

    def test_it_reaches_the_last_partition(self) -> None:
        """Nothing is left one below: 11 partitions, load for 11, 10 sinks with a backlog."""
        assert driver(10).look(**{**BACKLOG, "offered_per_s": 750.0, "active_partitions": 11}).replicas.applied == 11

    def test_one_step_is_bounded(self) -> None:
        assert driver(1).look(**{**BACKLOG, "offered_per_s": 1_000.0}).replicas.applied == 4

    def test_a_burst_is_not_smoothed_away(self) -> None:
        bursting = driver()
        bursting.looks(300)
        assert bursting.look(**BACKLOG).replicas.applied == 6

    @pytest.mark.parametrize(
        ("level", "left", "sinks"),
        [(Level.SOFT, 60_000, 4), (Level.NORMAL, 60_000, 4), (Level.GRACEFUL, 60_000, 2), (Level.SOFT, 90_000, 2)],
        ids=["brought in", "at level 0", "put off still", "cannot be read"],
    )
    def test_what_is_owed_is_caught_up_with_once_it_is_brought_in(self, level: Level, left: int, sinks: int) -> None:
        """(140 / 0.7 + 60,000 / 300) / 100 are 4."""
        owing, load = driver(), {"offered_per_s": 140.0, "accepted_per_s": 140.0}
        owing.looks(60, **load, deferred_records=90_000, service_level=Level.GRACEFUL)
        assert owing.looks(3_600, **load, deferred_records=left, service_level=level).replicas.applied == sinks

    def test_an_uneven_number_of_sinks_is_no_help(self) -> None:
        """5 of 8 partitions' sinks are as full as 4: one has two partitions, 88 % of what it can do."""
        assert driver(4).look(offered_per_s=350.0, accepted_per_s=350.0, active_partitions=8).replicas.applied == 8

    def test_starts_together_with_the_first_level(self) -> None:
        both = Driver(replace(CONFIG, degradation=DegradationConfig(Mode.AUTO, position_interval_s=0, in_hand_s=0)))
        decision = both.look(**BACKLOG)
        assert (decision.level.applied, decision.replicas.applied) == (Level.SOFT, 6)


class TestLearning:
    """From what sinks did in a burst, without an assumed figure and with levels that act, as in most pipelines."""

    CALM: ClassVar[dict[str, Any]] = {"offered_per_s": 60.0, "accepted_per_s": 60.0}
    FIRST: ClassVar[dict[str, Any]] = {"unread_records": 5_000, "offered_per_s": 400.0, "accepted_per_s": 85.0}
    """The look in which the burst begins: 85/s are mostly the calm before."""

    @pytest.fixture
    def bursting(self) -> Driver:
        degradation = DegradationConfig(Mode.AUTO, position_interval_s=0, in_hand_s=0, dwell_down_s=10)
        found = Driver(PolicyConfig(degradation, replace(SCALING, assumed_per_s=None)), replicas=1)
        found.looks(60, **self.CALM)
        found.look(**self.FIRST)
        return found

    def test_the_first_look_of_a_burst_brings_sinks(self, bursting: Driver) -> None:
        assert bursting.targets() == [1, 4]

    def test_it_is_not_what_a_sink_can_do(self, bursting: Driver) -> None:
        """At level 1 each does 200/s, so that 2 do for the 200/s that stay; with 85/s it were 4."""
        bursting.looks(60, unread_records=5_000, offered_per_s=400.0, accepted_per_s=800.0)
        decision = bursting.looks(3_600, offered_per_s=200.0, accepted_per_s=200.0)
        assert decision.replicas.step.terms is not None
        assert decision.replicas.step.terms.throughput_per_s == 200
        assert (decision.level.applied, decision.replicas.applied) == (Level.NORMAL, 2)

    def test_what_was_taken_in_while_some_was_shed_is_a_lower_bound(self, bursting: Driver) -> None:
        shedding = {"unread_records": 50_000, "offered_per_s": 800.0, "accepted_per_s": 600.0, "shed_per_s": 400.0}
        decision = bursting.looks(25, **shedding, service_level=Level.GRACEFUL)
        assert decision.replicas.step.terms is not None
        assert decision.replicas.step.terms.throughput_per_s == 85  # rather too many sinks while they are behind
        decision = bursting.looks(3_600, offered_per_s=190.0, accepted_per_s=190.0)
        assert decision.replicas.step.terms is not None
        assert decision.replicas.step.terms.throughput_per_s == 150
        assert decision.replicas.applied == 2

    def test_a_sink_that_was_dead_at_first_is_not_known(self) -> None:
        dead = driver(1, assumed_per_s=None)
        dead.looks(60, **self.CALM)
        decision = dead.look(**{**self.FIRST, "accepted_per_s": 0.0})
        assert Reason.THROUGHPUT_UNKNOWN in decision.replicas.step.held_by

    def test_memory_alone_says_nothing_of_what_a_sink_can_do(self) -> None:
        """Sinks that shed for their memory and keep up read what is offered, however many they are."""
        full = Driver(replace(CONFIG, degradation=DegradationConfig(Mode.AUTO, position_interval_s=0, in_hand_s=0)))
        full.looks(60)
        for left in (5_000, 0) * 30:  # as after a rebalance: not enough to be behind, and draining
            unread = {"unread_records": left // 10, "offered_per_s": 100.0, "accepted_per_s": 70.0, "shed_per_s": 30.0}
            full.look(**unread, memory_ratio=0.82)
        assert full.levels()[-1] == Level.GRACEFUL
        assert full.targets() == [2]

    def test_an_assumption_that_is_too_high_yields_to_what_a_higher_level_showed(self, bursting: Driver) -> None:
        bursting.config = replace(bursting.config, scaling=replace(SCALING, assumed_per_s=100_000))
        bursting.looks(60, unread_records=5_000, offered_per_s=400.0, accepted_per_s=800.0)
        decision = bursting.looks(3_600, offered_per_s=200.0, accepted_per_s=200.0)
        assert decision.replicas.step.terms is not None
        assert decision.replicas.step.terms.throughput_per_s == 200
        assert bursting.targets() == [1, 4, 2]

    def test_an_assumption_that_is_too_high_keeps_no_sink_away_that_sheds_all_the_time(self) -> None:
        wrong = driver(1, assumed_per_s=100_000)
        shedding = {"unread_records": 50_000, "offered_per_s": 800.0, "accepted_per_s": 100.0, "shed_per_s": 100.0}
        wrong.looks(25, **shedding, service_level=Level.GRACEFUL)
        assert wrong.targets() == [1, 4]


class TestHold:
    def test_not_while_the_pipeline_stops(self) -> None:
        held = driver()
        held.look()
        assert Reason.STOPPING in held.looks(300, **BACKLOG, stopping=True).replicas.step.held_by
        assert held.targets() == [2]

    @pytest.mark.parametrize("name", NEEDS)
    def test_a_missing_figure_holds(self, name: str) -> None:
        held = driver()
        held.look()
        for _ in range(60):
            decision = held.look(**{**BACKLOG, name: None})
            assert decision.replicas.step.held_by == (Reason.METRICS_MISSING,)
        for _ in range(60):
            held.look(**{**IDLE, name: None})
        assert name in decision.missing
        assert held.targets() == [2]

    @pytest.mark.parametrize(
        ("seen", "reason"),
        [
            ({"rebalancing": True}, Reason.REBALANCING),
            ({"rolling_out": True}, Reason.ROLLING_OUT),
            ({"ready_replicas": 1}, Reason.ROLLING_OUT),
            ({"replicas": 3}, Reason.ROLLING_OUT),
        ],
        ids=["rebalance", "roll-out", "not ready", "not yet set"],
    )
    def test_not_while_it_changes_nor_one_commit_interval_after(self, seen: Any, reason: Reason) -> None:
        held = driver()
        held.look()
        assert reason in held.looks(300, **{**BACKLOG, **seen}).replicas.step.held_by
        assert held.look(**BACKLOG).replicas.step.held_by == (Reason.SETTLING,)
        assert held.targets() == [2]
        held.look(**BACKLOG)
        assert held.targets() == [2, 6]

    def test_a_change_is_left_to_settle(self) -> None:
        settling = driver()
        settling.look(**BACKLOG)
        assert settling.looks(25, **{**BACKLOG, "offered_per_s": 1_000.0}).replicas.applied == 6
        decision = settling.looks(10, **{**BACKLOG, "accepted_per_s": 600.0, "offered_per_s": 1_000.0})
        assert decision.replicas.applied == 16  # 15 would do, but one of them would have two of 16 partitions

    def test_zero_throughput_neither_grows_nor_shrinks(self) -> None:
        stalled = driver(8)
        stalled.look(accepted_per_s=800.0, offered_per_s=800.0)
        for seen in ({"unread_records": 50_000}, {"offered_per_s": 0.0}):
            for _ in range(200):
                decision = stalled.look(**{"accepted_per_s": 0.0, **seen})
                assert Reason.ZERO_THROUGHPUT in decision.replicas.step.held_by
        assert len(stalled.targets()) == 1

    def test_without_a_known_throughput(self) -> None:
        decision = driver(assumed_per_s=None).looks(2_000)
        assert decision.replicas.step.held_by == (Reason.THROUGHPUT_UNKNOWN,)
        assert decision.replicas.applied == 2


class TestDown:
    def test_after_the_window_by_half_at_most(self) -> None:
        down = driver(8)
        assert Reason.SETTLING in down.looks(900, **IDLE).replicas.step.held_by
        down.look(**IDLE)
        assert down.targets() == [8, 4]
        down.looks(3_600, **IDLE)
        assert down.targets() == [8, 4, 2, 1]

    def test_to_the_largest_recommendation_of_the_window(self) -> None:
        down = driver(8)
        down.looks(600, **IDLE)
        down.looks(120, offered_per_s=300.0, accepted_per_s=300.0)
        down.looks(500, **IDLE)
        assert down.targets()[1] >= 5

    def test_the_level_recovers_first(self) -> None:
        down = driver(8)
        decision = down.looks(3_600, **IDLE, service_level=Level.SOFT)
        assert decision.replicas.step.recommended == 4
        assert Reason.LEVEL_ABOVE_NORMAL in decision.replicas.step.held_by
        assert down.targets() == [8]

    def test_sinks_without_a_partition_go(self) -> None:
        assert (
            driver(8).looks(1_000, active_partitions=5, offered_per_s=800.0, accepted_per_s=800.0).replicas.applied == 5
        )

    def test_a_gap_starts_the_window_anew(self) -> None:
        down = driver(8)
        down.looks(890, **IDLE)
        down.now_s += 3_600
        down.looks(800, **IDLE)
        assert down.targets() == [8]

    def test_a_step_that_had_to_be_taken_back_is_not_repeated_for_a_while(self) -> None:
        """The throughput is believed too high: each time that it has shrunk there is a backlog."""
        down = driver(2)
        for _ in range(int(6 * 3_600 / 5)):
            down.look(**({"unread_records": 5_000} if down.replicas == 1 else {"offered_per_s": 50.0}))
        # Down after 0.25 h, and again 0.5, 1 and 2 h after that: without the block it were more than twenty times.
        assert down.targets() == [2, 1, 2, 1, 2, 1, 2, 1, 2]


class TestTakenBack:
    def test_a_step_that_brought_nothing(self) -> None:
        vain = driver()
        stuck = {**BACKLOG, "accepted_per_s": 200.0}
        vain.look(**stuck)
        decision = vain.looks(30, **stuck)
        assert decision.replicas.step.why is Reason.STEP_TAKEN_BACK
        assert vain.targets() == [6, 2]
        decision = vain.looks(1_500, **stuck)
        assert Reason.STEP_INEFFECTIVE in decision.replicas.step.held_by
        assert vain.targets() == [6, 2]
        vain.looks(6 * 3_600, **stuck)
        assert vain.targets() == [6, 2, 6, 2, 6, 2, 6, 2]  # after 0.5, 1 and 2 hours, then 4

    def test_one_that_helped_stays_and_clears_the_block(self) -> None:
        good = driver()
        good.look(**BACKLOG)
        good.looks(60, **{**BACKLOG, "accepted_per_s": 600.0})
        assert good.targets() == [6]
        assert Reason.STEP_TAKEN_BACK not in {decision.replicas.step.why for decision in good.decisions}

    def test_one_that_drains_has_helped(self) -> None:
        good = driver()
        good.look(**BACKLOG)
        for left in range(20):
            good.look(**{**BACKLOG, "unread_records": 5_000 - 100 * left})
        assert Reason.STEP_TAKEN_BACK not in {decision.replicas.step.why for decision in good.decisions}

    @pytest.mark.parametrize(
        "other",
        [{"unread_records": 0}, {"service_level": Level.SOFT}],
        ids=["no backlog", "another level"],
    )
    def test_where_it_cannot_be_told_it_stays(self, other: Any) -> None:
        """200 a second are read before and after; only a backlog at one level would show that the step was in vain."""
        unknown = driver()
        unknown.look(**{**BACKLOG, "unread_records": other.get("unread_records", 5_000)})
        assert unknown.replicas == 6
        unknown.looks(30, **{**BACKLOG, **other})
        assert unknown.replicas >= 6

    def test_where_nothing_was_read_before_there_is_nothing_to_compare(self) -> None:
        stalled = driver()
        stalled.look(**BACKLOG)
        stalled.look(**BACKLOG, ready_replicas=2, shed_per_s=None)
        stalled.look(**{**BACKLOG, "accepted_per_s": 0.0}, ready_replicas=2)
        stalled.looks(60, **BACKLOG)
        assert Reason.STEP_TAKEN_BACK not in {decision.replicas.step.why for decision in stalled.decisions}


class TestModes:
    def test_recommend_says_and_leaves(self) -> None:
        recommending = driver(mode=Mode.RECOMMEND)
        decision = recommending.looks(300, **BACKLOG)
        assert (decision.replicas.step.recommended, decision.replicas.applied) == (6, 2)
        assert decision.replicas.step.held_by == (Reason.MODE_RECOMMEND,)
        assert decision.replicas.commit_interval_s == 10

    def test_recommend_follows_what_somebody_sets(self) -> None:
        recommending = driver(mode=Mode.RECOMMEND)
        recommending.look()
        assert recommending.look(replicas=5, ready_replicas=5).replicas.applied == 5
        assert recommending.look(replicas=None).replicas.applied == 5

    def test_off_makes_no_decision(self) -> None:
        off = driver(mode=Mode.OFF)
        decision = off.looks(300, **BACKLOG)
        assert decision.replicas.step.why is Reason.MODE_OFF
        assert (decision.replicas.applied, decision.replicas.step.terms) == (2, None)
        assert off.state.scaling == ScalingState(target=2)

    def test_auto_keeps_its_number_when_somebody_else_sets_another(self) -> None:
        one_hand = driver()
        one_hand.look()
        assert one_hand.looks(60, replicas=9, ready_replicas=9).replicas.applied == 2

    @pytest.mark.parametrize(("replicas", "bound"), [(1, 3), (9, 5)], ids=["below", "above"])
    def test_bounds_act_at_once(self, replicas: int, bound: int) -> None:
        decision = driver(replicas, min_replicas=3, max_replicas=5).look()
        assert (decision.replicas.applied, decision.replicas.step.why) == (bound, Reason.BOUNDS)


def test_nothing_known_nothing_asked_for() -> None:
    silent = driver()
    decision = silent.look(replicas=None)
    assert decision.replicas.applied is None
    assert silent.state != PolicyState()


def test_the_commit_interval_grows_with_the_sinks_before_they_do() -> None:
    growing = driver()
    assert growing.look(**BACKLOG, commit_duration_s=2.0).replicas.commit_interval_s == 24
