"""One child process of the local stack or of `k2 up`: started, waited for, stopped, never left behind.

Owns `ManagedProcess`. Called by `k2_cli.stack.kafka` (a JVM), by `k2 up` (the services) and by fault tests, which
need the process id and signals. It never restarts anything: that is a decision of the caller.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from k2_cli.stack import guard
from k2_core.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_POLL_INTERVAL_S = 0.02
_TAIL_BYTES = 16_384

_LOG_LIMIT_BYTES = 16 * 1024 * 1024

_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="k2-spawn")
"""PR_SET_PDEATHSIG watches the *thread* that forked. Children started from a short-lived thread would be killed with
it, so they are forked by this one, which lives as long as the interpreter."""


@dataclass(eq=False, kw_only=True)
class ManagedProcess:
    """A child in a process group of its own, with its output in a file.

    On Linux it is killed when this process ends in any way (see `guard`); its own children are not, so a command that
    forks must end them on SIGTERM. Not thread-safe: one thread drives one instance.

    Args:
        name: What messages call it.
        command: Program and arguments; the program is looked up on PATH.
        log: Where stdout and stderr go, appended; its folder is made. A log over 16 MiB at a start is renamed to
            `<log>.1` first, replacing the one before.
        env: The whole environment; None inherits this process's.
        cwd: Working directory; None inherits.
        stop_timeout_s: How long `stop` waits after SIGTERM before SIGKILL.
        pass_fds: File descriptors that the child keeps open.
    """

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: Path | None = None
    stop_timeout_s: float = 10.0
    pass_fds: Sequence[int] = ()
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _log_start: int = field(default=0, init=False)

    @property
    def pid(self) -> int:
        """Process id of the command itself, also after its end.

        Raises:
            SetupError: It was never started.
        """
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal (-9); None while it runs or before it was started."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended; a stopped (SIGSTOP) process runs."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Starts the command, again if it has ended.

        Raises:
            SetupError: It runs already, or its log cannot be written.
        """
        if self.running:
            raise SetupError(f"{self.name} runs already as process {self.pid}, expected it to be stopped")
        if threading.current_thread() is threading.main_thread():
            self._child = self._spawn()
        else:
            self._child = _spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        wrapper = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid())]
        try:
            self._rotate_log()
            with self.log.open("ab") as output:
                self._log_start = output.tell()
                return subprocess.Popen(
                    [*wrapper, *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self.env,
                    cwd=self.cwd,
                    process_group=0,
                    pass_fds=tuple(self.pass_fds),
                )
        except OSError as error:
            raise SetupError(f"cannot start {self.name} with its log {self.log}: {error.strerror}") from error

    def _rotate_log(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))

    def wait_ready(self, check: Callable[[], bool], *, timeout_s: float) -> None:
        """Polls a check until it holds.

        Args:
            check: Returns True once the child serves; it must return within a fraction of the timeout and not raise.
            timeout_s: One deadline for all polls.

        Raises:
            SetupError: The child ended, or the deadline passed; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.running:
                raise SetupError(self._failure(f"ended with exit status {self.returncode} before it was ready"))
            if check():
                return
            if time.monotonic() >= deadline:
                raise SetupError(self._failure(f"was not ready within {timeout_s:g} s"))
            time.sleep(_POLL_INTERVAL_S)

    def send_signal(self, signal_number: int) -> None:
        """Sends a signal to the child alone; nothing happens if it has ended."""
        self._started().send_signal(signal_number)

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits for the end and returns the exit status, negative for a signal.

        Raises:
            SetupError: It still runs after `timeout_s`.
        """
        try:
            return self._started().wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SetupError(self._failure(f"still runs after {timeout_s:g} s, expected it to end")) from None

    def stop(self, timeout_s: float | None = None) -> int | None:
        """Ends the child: SIGTERM to its group, then SIGKILL at the deadline. May be called at any time and again.

        Args:
            timeout_s: Grace after SIGTERM; None takes `stop_timeout_s`.

        Returns:
            The exit status, negative for a signal (-9: it had to be killed); None if it was never started.
        """
        if self._child is None:
            return None
        if self._child.poll() is None:
            self._signal_group(signal.SIGTERM)
            # A process that a fault test has frozen could not act on SIGTERM.
            self._signal_group(signal.SIGCONT)
        try:
            return self._child.wait(self.stop_timeout_s if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL to the whole group, as a crash would; returns the exit status."""
        child = self._started()
        if child.poll() is None:
            self._signal_group(signal.SIGKILL)
        return child.wait()

    def _signal_group(self, signal_number: int) -> None:
        # Only while the leader is not reaped: until then the kernel gives its number to no other group.
        os.killpg(self._started().pid, signal_number)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines, at most 16 KiB, that were logged since the last start; empty if there are none."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            stream.seek(max(self._log_start, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _failure(self, what: str) -> str:
        tail = self.log_tail()
        return f"{self.name} {what}; log {self.log}" + (f" ends with:\n{tail}" if tail else " has no line of it")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise SetupError(f"{self.name} was never started")
        return self._child

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
