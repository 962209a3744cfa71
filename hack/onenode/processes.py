"""Processes that outlive the command that starts them, and are ended by exactly their ids.

Owns `run/<name>.json` (process id and start time) and `log/<name>.log` below a cluster's folder. Called by the control
plane, the node and the servers. A number that the kernel has given to another process since is never signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from k2_cli.stack import guard
from k2_core.errors import SetupError

_POLL_S: Final = 0.05
_TAIL_BYTES: Final = 16_384
_TAIL_LINES: Final = 15
STOP_TIMEOUT_S: Final = 5.0
"""Grace after SIGTERM; a database waits for its clients for ever."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to start.

    Args:
        name: In messages, and of its log.
        argv: Program and arguments.
        env: Added to this process's environment.
        cwd: Working directory; None is the root folder.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one cluster.

    Args:
        directory: The cluster's folder.
        enter: Put before each command, to run it elsewhere (`nsenter …`).
        bound: Whether they die with this process (Linux), as a test wants; else they stay until `stop`.
    """

    directory: Path
    enter: Sequence[str] = ()
    bound: bool = False

    def log(self, name: str) -> Path:
        """Where the output of a process goes."""
        return self.directory / "log" / f"{name}.log"

    def start(self, command: Command) -> None:
        """Start a process and write down which it is.

        Raises:
            SetupError: It runs already, or cannot be started.
        """
        if self.running(command.name):
            raise SetupError(f"{command.name} runs already, expected it to be stopped (hack/cluster down)")
        wrapper = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid())] if self.bound else []
        log = self.log(command.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            try:
                child = subprocess.Popen(
                    [*wrapper, *self.enter, *command.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | command.env,
                    cwd=command.cwd or "/",
                    start_new_session=True,
                )
            except OSError as error:
                raise SetupError(f"cannot start {command.name} ({command.argv[0]}): {error.strerror}") from error
        _write_record(self._record(command.name), child.pid)
        child.returncode = 0  # it is meant to outlive this object: no warning about that

    def wait_ready(self, name: str, check: Callable[[], bool], timeout_s: float) -> None:
        """Poll a check until it holds.

        Raises:
            SetupError: The process ended or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not check():
            if not self.running(name):
                raise SetupError(f"{name} ended before it was ready; {self.tail(name)}")
            if time.monotonic() >= deadline:
                raise SetupError(f"{name} was not ready within {timeout_s:g} s; {self.tail(name)}")
            time.sleep(_POLL_S)

    def tail(self, name: str) -> str:
        """The end of a log, for a message."""
        log = self.log(name)
        if not log.exists():
            return f"it has no log {log}"
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return f"{log} ends with:\n" + "\n".join(lines)

    def names(self) -> list[str]:
        """What was started and not stopped, oldest first."""
        records = sorted((self.directory / "run").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [path.stem for path in records]

    def running(self, name: str) -> bool:
        """Whether a process that was started lives."""
        return _alive(self._record(name)) is not None

    def pid(self, name: str) -> int | None:
        """Id of a living process."""
        process = _alive(self._record(name))
        return None if process is None else process.pid

    def stop(self, name: str, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End a process: SIGTERM, SIGKILL after the timeout. Nothing happens if it has ended."""
        record = self._record(name)
        if (process := _alive(record)) is not None:
            end([process], timeout_s)
        record.unlink(missing_ok=True)

    def stop_all(self) -> None:
        """End all at once: nothing of what they hold is kept, so none needs another to end well."""
        records = [self._record(name) for name in self.names()]
        end([process for record in records if (process := _alive(record)) is not None], STOP_TIMEOUT_S)
        for record in records:
            record.unlink(missing_ok=True)

    def _record(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.json"


def end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """SIGTERM, then SIGKILL to those that are left; returns when all are gone.

    Raises:
        SetupError: One cannot be ended.
    """
    left = list(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        left = _wait_gone(left, timeout_s)
        if not left:
            return
    raise SetupError(f"could not end {', '.join(str(process) for process in left)}")


def _wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_s
    left = list(processes)
    while left := [process for process in left if _lives(process)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    return left


def _lives(process: psutil.Process) -> bool:
    """Whether it runs; a dead child of this process is taken away on the way."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        if process.ppid() == os.getpid():
            os.waitpid(process.pid, os.WNOHANG)
    except (psutil.NoSuchProcess, ChildProcessError):
        pass
    return False


def _write_record(record: Path, pid: int) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    started = psutil.Process(pid).create_time()
    temporary = record.with_suffix(".new")
    temporary.write_text(json.dumps({"pid": pid, "started": started}))
    temporary.replace(record)


def _alive(record: Path) -> psutil.Process | None:
    try:
        wanted = json.loads(record.read_text())
        process = psutil.Process(wanted["pid"])
        same = process.create_time() == wanted["started"]
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    return process if same and _lives(process) else None
