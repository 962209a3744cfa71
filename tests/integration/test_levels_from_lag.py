"""A sink that is too slow drives a pipeline through all levels and back, while its processes are killed.

The oracle is the log itself: every record of it, by position, with its content. And in each scrape meanwhile what the
table has passed is what became of it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2_cli.folder import StateFolder
from k2_core.types import Partition, TopicName
from support.cli import k2
from support.contents import check_same, log_contents, log_ends, table_contents
from support.lake import committed_state, lake_settings
from support.running import ROOT, Running, nothing_is_left_of
from support.scrapes import scraping
from support.throttle import throttled

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.levels, pytest.mark.timeout(900)]

RATE = 4_000
RUNS_S, STANDS_S = 0.1, 2.9
"""Its reports outlive the turns, and more comes while it stands than it takes in a turn. What comes in a second enters
no level."""
CRITICAL = {"BTCUSDT", "ETHUSDT"}
"""Two of three, so that what level 3 takes in is alone enough for level 4: what it only puts off does not count."""
TOPIC = "market.crypto.trades.binance"
DEGRADATION = {
    "mode": "Auto",
    "levels": {
        "soft": {"enterUnreadRecords": 5_000},
        "graceful": {"enterUnreadRecords": 5_500},
        "aggressive": {"enterUnreadRecords": 6_000},
        "circuitBreak": {"enterUnreadRecords": 7_000},
    },
    "dwellUpSeconds": 1,
    "dwellDownSeconds": 10,  # each level is seen by the test and acted on by a sink that may stand still for seconds
    "drainingWithinSeconds": 1,
    "probeSeconds": 2,
    "rebalanceGraceSeconds": 0,
}


def processes(running: Running) -> dict[str, Any]:
    info = StateFolder(running.folder).running()
    return {} if info is None else {one.name: one for one in info.processes}


def level(running: Running) -> int:
    answer = k2("level", "--json", "--dir", running.folder)
    return int(answer.document["level"]) if answer.code == 0 and answer.document["level"] is not None else 0


def kill(running: Running, name: str) -> None:
    """End a process by SIGKILL, and wait until another one is in its place."""
    pid = processes(running)[name].pid
    os.kill(pid, signal.SIGKILL)
    running.until(lambda: name in processes(running) and processes(running)[name].pid != pid)


def steps(running: Running) -> list[tuple[int, int]]:
    """From which level to which the sinks went, one after the other."""
    lines = (running.folder / "log" / "sink-0.log").read_text().rpartition("\n")[0].splitlines()
    said = [json.loads(line) for line in lines if '"level changed"' in line]
    return [(one["from_level"], one["to_level"]) for one in said]


def taken_in(running: Running, ends: Mapping[int, int]) -> bool:
    state = committed_state(lake_settings(running.folder))
    assert state is not None
    stands = state.topics[TopicName(TOPIC)].partitions
    return all(number in stands and stands[Partition(number)].next >= end for number, end in ends.items())


def test_a_slow_sink_drives_it_through_all_levels_and_back(start: Callable[..., Running], tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "manifests" / "pipeline.yaml").read_text())
    document["spec"]["sink"]["commitIntervalSeconds"] = 1
    document["spec"]["degradation"] = DEGRADATION
    for symbol in document["spec"]["ingestion"][0]["symbols"]:
        symbol["priority"] = "critical" if symbol["name"] in CRITICAL else "low"
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    running = start("-f", file, "--synthetic", "--rate", RATE)
    running.until(lambda: running.rows() > 0 and level(running) == 0)

    def sinks() -> dict[str, str]:
        found = processes(running)
        return {name: one.metrics_url for name, one in found.items() if name.startswith("sink-") and one.metrics_url}

    with scraping(sinks) as scrapes:
        with throttled(partial(os.kill, processes(running)["sink-0"].pid), RUNS_S, STANDS_S):
            running.until(lambda: level(running) >= 2)
            kill(running, "controller")
            running.until(lambda: level(running) == 4)
            running.until(lambda: any(after == 4 for _, after in steps(running)))
        kill(running, "sink-0")
        for down in (3, 2, 1):  # four times in all: `k2 up` ends for a process that dies more often within two minutes
            running.until(lambda down=down: level(running) == down)  # type: ignore[misc]
            kill(running, "controller")
            assert level(running) >= down - 1  # one that has just come knows no less, and goes on step by step
        running.until(lambda: level(running) == 0)
        running.until(lambda: not k2("audit", "--json", "--dir", running.folder).document["open_ledger"])
        info = StateFolder(running.folder).running()
        assert info is not None
        log = log_contents(info.kafka, TOPIC)
        ends = log_ends(log)
        running.until(lambda: taken_in(running, ends))
        running.until(lambda: not k2("audit", "--json", "--dir", running.folder).document["open_ledger"])
    check_same(table_contents(running.folder, "market", ends), log)
    assert running.end(signal.SIGINT) == 0, running.said()
    nothing_is_left_of(running)
    seen = steps(running)
    assert {level for _, level in seen} == {0, 1, 2, 3, 4}, seen
    assert all(before - after == 1 for before, after in seen if after < before), seen
    assert {(3, 2), (2, 1), (1, 0)} <= set(seen), seen
    assert scrapes.unbalanced == []
    assert scrapes.balanced > 10
    assert "deferred" in scrapes.accounts
