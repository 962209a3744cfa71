"""The control topic goes while no controller runs: a sink and a controller as processes, and the level that stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core.control import CONTROL_TOPIC, ControlView
from k2_core.control_topic import ControlReader
from k2_core.types import Level
from support.controller_process import ControllerProcess
from support.records import make_trades
from support.sink import NAME, SinkProcess, SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.levels]

NEVER_S: Final = 600
DWELL_DOWN_S: Final = 2
LOOKS: Final = 3
"""The first of a controller knows no rates, and decides nothing."""


@pytest.fixture
def work(kafka: LocalKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
    made = SinkWorkspace(kafka.bootstrap_servers, tmp_path)
    yield made
    made.close()


@pytest.fixture
def decide(work: SinkWorkspace) -> Iterator[Callable[[int], ControllerProcess]]:
    """Start controllers that leave a level after so many seconds; they end with the test."""
    started: list[ControllerProcess] = []

    def start(dwell_down_s: int) -> ControllerProcess:
        work.spec = {"degradation": degradation(dwell_down_s)}
        log = work.folder / f"controller-{len(started)}.log"
        started.append(ControllerProcess(work.environment(), log, LOOKS))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def degradation(dwell_down_s: int) -> dict[str, Any]:
    return {"mode": "Auto", "dwellDownSeconds": dwell_down_s, "watchMemory": False}


def said(work: SinkWorkspace) -> ControlView:
    reader = ControlReader(work.settings, f"{work.namespace}.{NAME}")
    try:
        return reader.read_all()
    finally:
        reader.close()


def steps(sink: SinkProcess) -> list[tuple[int, int]]:
    """From which level to which the sink went, one after the other."""
    return [(line["from_level"], line["to_level"]) for line in sink.said("level changed")]


def test_a_controller_that_starts_when_the_topic_is_gone_leaves_the_level_as_it_is(
    work: SinkWorkspace, decide: Callable[[int], ControllerProcess]
) -> None:
    work.spec = {"degradation": degradation(NEVER_S)}
    work.produce(make_trades(100, symbols=("BTCUSDT",), seed=5))
    work.set_level(2)
    sink = work.start()
    wait_until(lambda: steps(sink) == [(0, 2)], "the sink to act on level 2")
    first = decide(NEVER_S)
    assert first.shown.figure("k2_controller_level") == Level.GRACEFUL
    first.kill()  # as it dies, it says nothing more
    client = AdminClient({"bootstrap.servers": work.bootstrap_servers})
    client.delete_topics([CONTROL_TOPIC])[CONTROL_TOPIC].result(30)
    second = decide(NEVER_S)
    assert second.shown.figure("k2_controller_level") == Level.GRACEFUL
    assert second.shown.figure('k2_controller_why{of="level",word="TakenOver"}') == 1
    view = said(work)
    assert view.command is not None
    assert (view.command.level, view.command.reason) == (Level.GRACEFUL, "TakenOver")
    assert view.memory is not None
    wait_until(lambda: sink.get("/health").status_code == 200, "a sink that follows the topic again")
    second.kill()
    third = decide(DWELL_DOWN_S)
    wait_until(lambda: third.shown.figure("k2_controller_level") == Level.NORMAL, "recovery")
    wait_until(lambda: steps(sink)[-1][1] == Level.NORMAL, "the sink to act on level 0")
    assert steps(sink) == [(0, 2), (2, 1), (1, 0)]
