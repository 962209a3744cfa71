"""`k2 status` with processes that are well, not well and gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from k2_cli.folder import RunInfo, RunningProcess, StateFolder
from k2_core.health import HealthServer
from support.cli import k2


def test_nothing_runs(tmp_path: Path) -> None:
    assert k2("status", "--dir", tmp_path).code == 1
    answer = k2("status", "--dir", tmp_path, "--json")
    assert (answer.code, answer.document) == (1, {"running": False, "well": False, "dir": str(tmp_path)})


def test_between_start_and_up_it_says_so(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.acquire()
    answer = k2("status", "--dir", tmp_path)
    folder.release()
    assert (answer.code, answer.out) == (1, f"{tmp_path}: `k2 up` is starting or stopping\n")


def test_each_process_is_asked_how_it_is(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    trouble: dict[str, str | None] = {"commit": None}
    folder = StateFolder(tmp_path)
    folder.acquire()
    with HealthServer("127.0.0.1", 0, CollectorRegistry(), {"commit": lambda: trouble["commit"]}) as server:
        processes = [
            RunningProcess("sink-0", os.getpid(), f"http://127.0.0.1:{server.port}"),
            RunningProcess("exchange", os.getpid(), None),
        ]
        info = RunInfo(1, "now", "127.0.0.1:1", "http://127.0.0.1:2", "live: it answers", tuple(processes))
        folder.write_run(info)
        well = k2("status", "--dir", tmp_path)
        trouble["commit"] = "catalog locked"
        unwell = k2("status", "--dir", tmp_path, "--json")
        processes.append(RunningProcess("ingest-a", gone.pid, None))
        folder.write_run(RunInfo(1, "now", "", "", "", tuple(processes)))
        dead = k2("status", "--dir", tmp_path)
    folder.release()
    assert well.code == 0
    assert "live: it answers" in well.out
    assert [line.split()[-1] for line in well.out.splitlines()[1:3]] == ["well", "well"]
    assert unwell.code == 1
    assert "catalog locked" in unwell.document["processes"][0]["problem"]
    assert unwell.document["api"] == "http://127.0.0.1:2"
    assert dead.code == 1
    assert "not running" in dead.out
