"""`hack/run` as a process: started, watched, interrupted, and nothing of it left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from k2_cli.stack import ports
from support.cli import k2

ROOT = Path(__file__).parents[2]
RUN: Path = ROOT / "hack" / "run"
TIMEOUT_S = 150.0


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(RUN), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd="/")


@dataclass
class Running:
    """A `k2 up` that goes on."""

    process: subprocess.Popen[str]
    folder: Path
    port: int
    stderr: Path
    stdout: Path
    children: list[psutil.Process] = field(default_factory=list)

    def said(self) -> str:
        return self.stdout.read_text() + self.stderr.read_text()

    def until(self, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until a condition holds, and return what it found."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return found

    def rows(self) -> int:
        answer = k2("tables", "--json", "--dir", self.folder)
        return sum(table["rows"] for table in answer.document["tables"]) if answer.code == 0 else 0

    def end(self, number: signal.Signals) -> int:
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


def start_run(folder: Path, number: int, *options: object) -> Running:
    """Start `hack/run` on `k2` in a folder, the next one of that number."""
    port = ports.find_free(str(folder))
    out, err = folder / f"out{number}", folder / f"err{number}"
    arguments = ["--dir", folder / "k2", "--port", port, *options]
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [str(RUN), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, cwd="/", process_group=0)
    return Running(process, folder / "k2", port, err, out)


def descendants_of(folder: Path) -> list[str]:
    """Processes that work on this folder: the JVM and the services have it in their command or environment."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            told = " ".join(process.info["cmdline"] or []) + " ".join(process.environ().values()) + process.cwd()
        except psutil.Error:
            continue
        if str(folder) in told and process.pid != os.getpid():
            found.append(f"{process.pid} {process.info['cmdline']}")
    return found


def nothing_is_left_of(running: Running) -> None:
    assert running.children
    assert not [child for child in running.children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not descendants_of(running.folder)
    assert ports.is_free(running.port)
    assert ports.is_free(int((running.folder / "kafka" / "port").read_text()))
    assert not (running.folder / "run.json").exists()
