"""Detached processes: known by id and start time, ended by exactly that, explained by their log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from k2_core.errors import SetupError
from onenode.processes import Command, Processes

SLEEP = Command("sleeper", ["sleep", "60"])


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    own = Processes(tmp_path)
    yield own
    own.stop_all()


def test_started_it_runs_and_stopped_it_is_gone(processes: Processes) -> None:
    processes.start(SLEEP)
    pid = processes.pid("sleeper")
    assert pid is not None
    assert processes.names() == ["sleeper"]
    processes.stop("sleeper")
    assert not psutil.pid_exists(pid)
    assert processes.names() == []


def test_it_is_not_started_twice(processes: Processes) -> None:
    processes.start(SLEEP)
    with pytest.raises(SetupError, match="sleeper runs already"):
        processes.start(SLEEP)


def test_another_process_with_its_number_is_left_alone(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    record = tmp_path / "run" / "sleeper.json"
    record.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time() - 100}))
    assert not processes.running("sleeper")
    processes.stop("sleeper")
    assert not record.exists()


def test_one_that_ignores_sigterm_is_killed(processes: Processes) -> None:
    ignores = "import signal,time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    processes.start(Command("deaf", [sys.executable, "-c", ignores]))
    processes.wait_ready("deaf", lambda: "ready" in processes.log("deaf").read_text(), 10)
    processes.stop("deaf", timeout_s=0.2)
    assert not processes.running("deaf")


def test_an_early_end_is_reported_with_the_end_of_the_log(processes: Processes) -> None:
    processes.start(Command("brief", ["sh", "-c", "echo port in use; exit 1"]))
    with pytest.raises(SetupError, match=r"brief ended before it was ready; .*brief\.log ends with:\nport in use"):
        processes.wait_ready("brief", lambda: False, 10)


def test_a_deadline_is_reported(processes: Processes) -> None:
    processes.start(SLEEP)
    with pytest.raises(SetupError, match=r"sleeper was not ready within 0\.1 s"):
        processes.wait_ready("sleeper", lambda: False, 0.1)


def test_what_cannot_be_started_is_named(processes: Processes) -> None:
    with pytest.raises(SetupError, match=r"cannot start ghost \(/no/such/program\): No such file"):
        processes.start(Command("ghost", ["/no/such/program"]))


def test_each_command_is_entered_with_the_prefix(tmp_path: Path) -> None:
    own = Processes(tmp_path, enter=["env", "WHERE=inside"])
    own.start(Command("teller", ["sh", "-c", "echo $WHERE $WHO; exec sleep 60"], env={"WHO": "me"}))
    own.wait_ready("teller", lambda: own.log("teller").read_text() == "inside me\n", 10)
    own.stop_all()


def test_one_without_a_log_is_explained_too(processes: Processes) -> None:
    assert "has no log" in processes.tail("nobody")


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "detached"])
def test_bound_ones_alone_die_with_who_started_them(tmp_path: Path, processes: Processes, bound: bool) -> None:
    program = (
        "import os, sys; from pathlib import Path; from onenode.processes import Command, Processes; "
        "Processes(Path(sys.argv[1]), bound=sys.argv[2] == 'True').start(Command('sleeper', ['sleep', '60'])); "
        "os._exit(0)"
    )
    hack = str(Path(__file__).parents[2] / "hack")
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(bound)],
        env=os.environ | {"PYTHONPATH": hack},
        check=True,
        timeout=30,
    )
    if bound:
        pid = json.loads((tmp_path / "run" / "sleeper.json").read_text())["pid"]
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
    assert processes.running("sleeper") is not bound
