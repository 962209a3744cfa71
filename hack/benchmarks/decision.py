"""The policy: what a step costs, and what it does beside KEDA's rule in the same simulated pipelines.

Each scenario of `tests/support/simulation.py` runs under the policy and under ceil(lag / threshold) behind a horizontal
pod autoscaler, with KEDA's default threshold of 10 records and with one that fits the load (2.5 s of a sink's work).
Step times are of the process's CPU, over a burst with everything in it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, at_most

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from k2_core.policy.decision import PolicyState, step
from k2_core.policy.memory import from_dict, to_dict
from support.simulation import K2, SCENARIOS, Controller, Keda, World, auto, simulate

STEP_TARGET_MS = 1.0
RECOVERED_BELOW = 10_000
EVENT_S = 600
"""When each scenario's event happens, if it has one."""


def run(progress: Callable[[str], None]) -> list[Figure]:
    """Measure the step, and print the comparison line by line."""
    looks = K2()
    simulate(SCENARIOS["burst"], looks)
    figures = _steps(looks)
    progress(f"{'scenario':16} {'rule':11} {'changes':>7} {'peak lag':>11} {'recovered':>9} {'sink-hours':>10} levels")
    for name, world in SCENARIOS.items():
        figures += _compared(name, world, progress)
    return figures


def _steps(looks: K2) -> list[Figure]:
    times_ms, state = [], PolicyState()
    for decision in looks.decisions:
        began = time.thread_time()
        state, _ = step(auto(), state, decision.observation, decision.now_s)
        times_ms.append((time.thread_time() - began) * 1e3)
    times_ms.sort()
    began = time.thread_time()
    rounds = 500
    for _ in range(rounds):
        state = from_dict(json.loads(json.dumps(to_dict(state))))
    stored_ms = (time.thread_time() - began) * 1e3 / rounds
    return [
        at_most("decision", "policy step, mean", sum(times_ms) / len(times_ms), "ms", STEP_TARGET_MS),
        at_most("decision", "policy step, p99", times_ms[int(len(times_ms) * 0.99)], "ms", STEP_TARGET_MS),
        Figure("decision", "state stored and read back", stored_ms, "ms"),
        Figure("decision", "state as JSON", len(json.dumps(to_dict(state))), "bytes"),
    ]


def _compared(name: str, world: World, progress: Callable[[str], None]) -> list[Figure]:
    rules: dict[str, Controller] = {
        "k2": K2(),
        "keda 10": Keda(10, at_most=world.partitions),
        "keda 5,000": Keda(5_000, at_most=world.partitions),
    }
    runs = {rule: simulate(world, controller) for rule, controller in rules.items()}
    for rule, ran in runs.items():
        recovered_s = ran.recovered_s(EVENT_S, RECOVERED_BELOW)
        never = EVENT_S + recovered_s > world.duration_s
        shown = "never" if never else f"{recovered_s:,.0f} s"
        levels = f"0-{max(ran.levels())}" if max(ran.levels()) else "0"
        progress(f"{name:16} {rule:11} {ran.changes():7} {ran.peak():11,} {shown:>9} {ran.sink_hours():10.1f} {levels}")
    k2, tuned = runs["k2"], runs["keda 5,000"]
    return [
        Figure("decision", f"{name}: replica changes", k2.changes(), "changes", baseline=tuned.changes()),
        Figure("decision", f"{name}: peak lag", k2.peak(), "records", baseline=tuned.peak()),
    ]
