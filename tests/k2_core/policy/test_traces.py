"""The policy in a simulated pipeline: what it does over hours of a scenario, level by level and sink by sink."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import Mode, ScalingConfig
from k2_core.types import Level
from support.simulation import EPOCH_S, K2, SCENARIOS, Keda, Run, auto, simulate


@cache
def ran(name: str, seed: int = 1) -> tuple[Run, K2]:
    controller = K2()
    return simulate(SCENARIOS[name], controller, seed), controller


def whys(controller: K2) -> set[Reason]:
    return {decision.replicas.step.why for decision in controller.decisions}


@pytest.mark.parametrize("seed", range(3))
def test_constant_load_changes_nothing(seed: int) -> None:
    """4 hours at 60 % of what 5 sinks do, with noise."""
    run, _ = ran("constant", seed)
    assert run.changes() == 0
    assert run.levels() == [Level.NORMAL]


@pytest.mark.parametrize("utilization", [0.5, 0.69, 0.71, 0.84, 0.86, 0.95])
def test_constant_load_near_a_bound_changes_once_an_hour_at_most(utilization: float) -> None:
    world = replace(SCENARIOS["constant"], offered_per_s=lambda _: 10_000 * utilization, duration_s=2 * 3600)
    run = simulate(world, K2(auto(scaling=ScalingConfig(Mode.AUTO, assumed_per_s=2_000))))
    assert run.changes(0, 3_600) <= 1
    assert run.changes(3_600) <= 1


def test_a_tenfold_burst() -> None:
    run, controller = ran("burst")
    assert run.at(600).level is Level.GRACEFUL
    assert run.at(600).replicas == 4  # the same look
    assert run.levels() == [0, 2, 1, 0]
    replicas = run.replicas()
    peak = max(replicas)
    assert 8 <= peak <= 16  # 10,000 a second at 70 % of 2,000 want 8
    rising = replicas.index(peak)
    assert replicas == [*sorted(replicas[: rising + 1]), *sorted(replicas[rising + 1 :], reverse=True)]
    assert replicas[-1] == 1  # as before it, though level 0 has no figure of its own
    assert run.recovered_s(600, 10_000) < 600
    assert run.rows[-1].deferred == 0
    down = [row for row, later in zip(run.rows, run.rows[1:], strict=False) if later.replicas < row.replicas]
    assert all(row.level is Level.NORMAL for row in down)
    assert Reason.STEP_TAKEN_BACK not in whys(controller)


def test_a_slow_leak_of_the_stores_speed() -> None:
    """The store ends at a fifth of its speed: one sink after another, and a step down that failed is not repeated."""
    run, _ = ran("slow leak")
    assert run.replicas()[:3] == [1, 2, 3]
    assert run.replicas()[-1] == 3
    assert run.changes() <= 4
    assert max(run.levels()) <= Level.GRACEFUL
    assert run.peak() < 20_000


def test_a_saw_tooth_does_not_saw_at_the_sinks() -> None:
    """Twelve teeth between a quarter and 1.75 times what one sink does."""
    run, _ = ran("saw-tooth")
    assert run.replicas() == [1, 2]
    assert run.levels() == [0, 1, 0]


def test_a_dead_sink_opens_the_circuit_and_recovers_step_by_step() -> None:
    run, controller = ran("dead sink")
    assert run.at(600).level is Level.CIRCUIT_BREAK
    assert run.levels()[:2] == [Level.NORMAL, Level.CIRCUIT_BREAK]
    assert run.levels()[-4:] == [3, 2, 1, 0]
    assert set(run.levels()[1:-3]) == {3, 4}  # trials, each 3 minutes after the last
    assert len({row.replicas for row in run.rows if 600 <= row.at_s < 1_500}) == 1
    assert run.changes() <= 6
    assert run.rows[-1].deferred == 0
    first = next(row.at_s for row in run.rows if row.at_s >= 1_500 and row.level < Level.CIRCUIT_BREAK)
    assert first < 1_500 + 185
    held = {reason for decision in controller.decisions for reason in decision.replicas.step.held_by}
    assert Reason.ZERO_THROUGHPUT in held


def test_a_hot_partition_is_not_answered_with_ever_more_sinks() -> None:
    """One partition takes more than one sink does; its symbol is critical, so that no level helps either."""
    run, controller = ran("hot partition")
    assert Reason.STEP_TAKEN_BACK in whys(controller)
    assert run.changes() <= 6
    first = next(d for d in controller.decisions if d.replicas.step.why is Reason.STEP_TAKEN_BACK)
    at_s = first.now_s - EPOCH_S
    assert first.replicas.applied is not None
    assert first.replicas.applied < 8
    assert run.changes(at_s + 1, at_s + 1_800) == 0  # blocked for half an hour
    assert max(row.replicas for row in run.rows) <= 8


def test_a_flapping_source_of_metrics() -> None:
    """Half of the looks are silent, and the two minutes in which a burst begins."""
    run, controller = ran("flapping source")
    assert run.at(699).level is Level.NORMAL
    assert run.at(699).replicas == 1
    assert run.at(725).level >= Level.GRACEFUL
    assert run.levels()[-1] is Level.NORMAL
    assert run.levels() == [0, *sorted(run.levels()[1:], reverse=True)]
    silent = [decision for decision in controller.decisions if decision.missing]
    assert len(silent) > len(controller.decisions) / 3
    for earlier, later in zip(controller.decisions, controller.decisions[1:], strict=False):
        if later.missing:
            assert later.level.applied is earlier.level.applied
            assert later.replicas.applied == earlier.replicas.applied
    assert run.changes() <= 5


def test_slow_commits_lengthen_the_interval_instead_of_starving_sinks() -> None:
    """A commit takes 5 s: 5 sinks take turns within 50 s."""
    run, controller = ran("slow store")
    assert max(decision.replicas.commit_interval_s for decision in controller.decisions) == 2 * 5 * max(run.replicas())
    assert run.peak() < 100_000
    starved = simulate(SCENARIOS["slow store"], Keda(5_000, at_most=8))
    assert starved.peak() > 10 * run.peak()


def test_kedas_rule_swings_under_constant_load() -> None:
    """The baseline: lag alone, with a threshold of 2.5 s of a sink's work, has no place to rest."""
    assert simulate(SCENARIOS["constant"], Keda(5_000, at_most=8)).changes() > 50
