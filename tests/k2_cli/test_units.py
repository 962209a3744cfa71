"""k2_cli.units with real processes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.process import ManagedProcess
from k2_cli.units import KafkaUnit, ProcessUnit
from support.kafka import start_or_skip

COUNT_TERMS = """
import signal, sys, time
terms = []
signal.signal(signal.SIGTERM, lambda *_: terms.append(1))
print("up", flush=True)
while not terms:
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(10 + len(terms))
"""
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def units() -> Iterator[list[ProcessUnit]]:
    made: list[ProcessUnit] = []
    yield made
    for unit in made:
        unit.kill()


def start(units: list[ProcessUnit], log: Path, code: str, stop_timeout_s: float = 60.0) -> ProcessUnit:
    process = ManagedProcess(name="p", command=[sys.executable, "-c", code], log=log, stop_timeout_s=stop_timeout_s)
    unit = ProcessUnit(process)
    units.append(unit)
    unit.start()
    until_up(unit)
    return unit


def until_up(unit: ProcessUnit) -> None:
    deadline = time.monotonic() + 60
    while "up" not in unit.log_tail(1):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sigterm_is_sent_once(units: list[ProcessUnit], tmp_path: Path) -> None:
    unit = start(units, tmp_path / "log", COUNT_TERMS)
    unit.ask_to_stop()
    assert unit.stop() == 11
    assert unit.stop() == 11
    unit.start()
    until_up(unit)
    assert unit.stop() == 11  # without having been asked before


def test_what_does_not_end_in_its_time_is_killed(units: list[ProcessUnit], tmp_path: Path) -> None:
    unit = start(units, tmp_path / "log", DEAF, stop_timeout_s=0.2)
    unit.ask_to_stop()
    assert unit.stop() == -signal.SIGKILL
    assert not unit.running


def test_a_frozen_process_is_asked_too(units: list[ProcessUnit], tmp_path: Path) -> None:
    unit = start(units, tmp_path / "log", COUNT_TERMS)
    unit.process.send_signal(signal.SIGSTOP)
    unit.ask_to_stop()
    assert unit.stop() == 11


@pytest.mark.kafka
def test_kafka_is_a_unit_that_comes_back_on_its_port(tmp_path: Path) -> None:
    kafka = LocalKafka(tmp_path)
    unit = KafkaUnit(kafka)
    start_or_skip(kafka)
    try:
        servers = kafka.bootstrap_servers
        kafka.process.kill()
        assert (unit.running, unit.returncode) == (False, -signal.SIGKILL)
        unit.start()
        assert (unit.running, unit.returncode, kafka.bootstrap_servers) == (True, None, servers)
        unit.ask_to_stop()
        assert unit.stop() is not None
        assert not unit.running
        unit.start()
        assert unit.log_tail() is not None
    finally:
        unit.kill()
    assert not unit.running
    unit.kill()
