"""A pipeline under pressure, from `hack/run`: levels rise, what is deferred comes back, sinks come, nothing is lost.

The exchange's ids are contiguous, so that the audit's proof is the oracle: every id of every symbol, each once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2_cli.folder import StateFolder
from k2_cli.scrape import Scraper
from support.cli import k2
from support.running import ROOT, TIMEOUT_S, Running, nothing_is_left_of
from support.throttle import throttled
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.levels]

RATE = 1_500
PRIORITIES = {"BTCUSDT": "critical", "ETHUSDT": "normal", "BNBUSDT": "low"}
LEVELS = {
    "soft": {"enterUnreadRecords": 1_000},
    "graceful": {"enterUnreadRecords": 2_000},
    "aggressive": {"enterUnreadRecords": 1_000_000},
    "circuitBreak": {"enterUnreadRecords": 2_000_000},
}


def pipeline(folder: Path, **more: Any) -> Path:
    """The project's own pipeline file, with levels that a test can reach and dwells that it can wait for."""
    document = yaml.safe_load((ROOT / "manifests" / "pipeline.yaml").read_text())
    document["spec"]["sink"]["commitIntervalSeconds"] = 1
    document["spec"]["degradation"] = {
        "mode": "Auto",
        "levels": LEVELS,
        "dwellUpSeconds": 1,
        "dwellDownSeconds": 2,
        "rebalanceGraceSeconds": 0,
    }
    document["spec"] |= more
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def level_of(running: Running) -> dict[str, Any]:
    answer = k2("level", "--json", "--dir", running.folder)
    return answer.document if answer.code == 0 else {"level": None, "command": None, "decision": None}


def sinks_of(running: Running) -> dict[str, int]:
    answer = k2("status", "--json", "--dir", running.folder)
    processes = answer.document["processes"] if answer.out else []
    return {one["name"]: one["pid"] for one in processes if one["name"].startswith("sink-")}


def raised(running: Running) -> dict[str, Any] | None:
    """The decision with which the level was raised to 2 or more, read together with the level."""
    answer = level_of(running)
    risen = (answer["level"] or 0) >= 2 and answer["decision"]["level"]["why"] != "Recovered"
    return dict(answer["decision"]) if risen else None


def answer_of(running: Running, command: str) -> dict[str, Any]:
    """What a command says, asked again where Kafka or the catalog did not answer in time."""
    answer = wait_until(lambda: (found := k2(command, "--json", "--dir", running.folder)).out and found, command)
    return dict(answer.document)


def lag_of(running: Running) -> dict[str, Any]:
    return answer_of(running, "lag")


def stands_still(running: Running) -> bool:
    """Whether the sink acts on level 4, and has no row in hand that a commit may yet bring in."""
    if '"to_level": 4' not in (running.folder / "log" / "sink-0.log").read_text():
        return False
    info = StateFolder(running.folder).running()
    assert info is not None
    [url] = [one.metrics_url for one in info.processes if one.name == "sink-0"]
    with closing(Scraper()) as scraper:
        sample = scraper.read(str(url))
    return sample is not None and sample.total("k2_sink_uncommitted_records") == 0


def well(running: Running) -> bool:
    """Whether every process says that it is: one that is still starting dies of a signal to stop."""
    return k2("status", "--dir", running.folder).code == 0


def answered(running: Running, symbol: str) -> dict[str, Any]:
    answer = k2("query", symbol, "--limit", 5, "--json", "--dir", running.folder)
    return dict(answer.document["meta"]) if answer.code == 0 else {"complete": False, "warnings": []}


def audit_of(running: Running) -> dict[str, Any]:
    return answer_of(running, "audit")


def test_a_slow_sink_raises_levels_and_all_that_was_deferred_comes_back(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start("-f", pipeline(tmp_path), "--synthetic", "--rate", RATE)
    running.until(lambda: running.rows() > 0 and level_of(running)["command"] is not None)
    with throttled(partial(os.kill, sinks_of(running)["sink-0"]), 0.3, 2.7):  # its reports outlive the turns
        decision = running.until(lambda: raised(running))
        assert decision["level"]["why"] in {"FirstCrossing", "FurtherCrossing", "Forecast"}
        assert decision["seen"]["unread_records"] > 1_000
    running.until(lambda: level_of(running)["level"] == 0)

    def held(level: int) -> None:
        answer = k2("level", "--set", level, "--for", "10m", "--reason", "a drill", "--json", "--dir", running.folder)
        assert (answer.code, answer.document["level"]) == (0, level), answer.err

    held(3)
    running.until(lambda: set(owed_symbols(running)) == {"ETHUSDT", "BNBUSDT"})
    running.until(lambda: answered(running, "BNBUSDT")["complete"])  # what is owed is read too, within the time limit
    before = running.rows()
    running.until(lambda: running.rows() > before)  # the critical symbol goes on
    held(4)
    running.until(lambda: stands_still(running))
    running.until(lambda: any(text.startswith("level 4:") for text in answered(running, "BTCUSDT")["warnings"]))
    standing, unread = running.rows(), lag_of(running)["unread"]
    running.until(lambda: lag_of(running)["unread"] > unread + RATE)
    assert running.rows() == standing
    assert k2("level", "--clear", "--reason", "over", "--dir", running.folder).code == 0
    running.until(lambda: level_of(running)["level"] == 0 and not audit_of(running)["open_ledger"])
    assert running.end(signal.SIGINT) == 0, running.said()
    nothing_is_left_of(running)
    proof = audit_of(running)
    assert proof["complete"] is True, proof["symbols"]
    assert not proof["open_ledger"]
    assert {day["symbol"] for day in proof["symbols"]} == set(PRIORITIES)
    assert all(at["balanced"] for at in proof["partitions"])


def test_the_end_waits_for_what_levels_put_off(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start("-f", pipeline(tmp_path), "--synthetic", "--rate", RATE)
    running.until(lambda: running.rows() > 0 and level_of(running)["command"] is not None)
    told = ("--reason", "a drill", "--dir", running.folder)
    held = k2("level", "--set", 3, "--for", "10m", *told)
    assert held.code == 0, held.err
    running.until(lambda: set(owed_symbols(running)) == {"ETHUSDT", "BNBUSDT"} and well(running))
    running.process.send_signal(signal.SIGINT)
    running.until(lambda: "records that levels put off" in running.said())
    cleared = k2("level", "--clear", *told)  # a person's decision goes before the end's
    assert cleared.code == 0, cleared.err
    assert running.process.wait(TIMEOUT_S) == 0, running.said()
    assert "everything received is committed" in running.said()
    proof = audit_of(running)
    assert proof["complete"] is True, proof["symbols"]
    assert not proof["open_ledger"]


def owed_symbols(running: Running) -> list[str]:
    return [symbol for entry in audit_of(running)["open_ledger"] for symbol in entry["symbols"]]


def test_sinks_come_with_the_load_and_go_without_loss(start: Callable[..., Running], tmp_path: Path) -> None:
    scaling = {"mode": "Auto", "maxReplicas": 3, "assumedPerSecond": RATE, "settleSeconds": 1}
    scaling |= {"targetUtilization": 0.01, "maxUtilization": 0.02}  # a load that is nothing to a sink wants three
    file = pipeline(tmp_path, scaling=scaling, degradation={"mode": "Off"})  # else something may be owed at the end
    running = start("-f", file, "--synthetic", "--rate", RATE)
    running.until(lambda: running.rows() > 0)
    running.until(lambda: len(sinks_of(running)) == 3)
    for name, pid in sinks_of(running).items():
        if name == "sink-0":
            os.kill(pid, signal.SIGKILL)
    before = running.rows()
    running.until(lambda: running.rows() > before and len(sinks_of(running)) == 3 and well(running))
    assert running.end(signal.SIGINT) == 0, running.said()
    nothing_is_left_of(running)
    proof = audit_of(running)
    assert proof["complete"] is True, proof
    assert all(at["balanced"] for at in proof["partitions"])
