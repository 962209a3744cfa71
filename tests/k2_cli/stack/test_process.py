"""k2_cli.stack.process with real children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from k2_cli.stack import process
from k2_cli.stack.process import ManagedProcess
from k2_core.errors import SetupError

Start = Callable[..., ManagedProcess]
DEADLINE_S = 10.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a Python program and waits until it has printed `up`; ends it after the test."""
    started: list[ManagedProcess] = []

    def make(program: str, *, stop_timeout_s: float = DEADLINE_S, pass_fds: tuple[int, ...] = ()) -> ManagedProcess:
        child = ManagedProcess(
            name="child",
            command=[sys.executable, "-c", textwrap.dedent(program)],
            log=tmp_path / "log" / "child.log",
            stop_timeout_s=stop_timeout_s,
            pass_fds=pass_fds,
        )
        started.append(child)
        child.start()
        child.wait_ready(lambda: "up" in child.log_tail(), timeout_s=DEADLINE_S)
        return child

    yield make
    for child in started:
        child.kill()


SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
GRACEFUL = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print('up', flush=True)
    time.sleep(60)
"""
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('up', flush=True)
    time.sleep(60)
"""
PARENT_OF_ONE = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print('up', child.pid, flush=True)
    time.sleep(60)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended within the deadline (a zombie has)."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_the_command_itself_has_the_process_id_and_leads_a_group(start: Start) -> None:
    child = start("import os, time; print('up', os.getpid(), os.getpgrp(), flush=True); time.sleep(60)")
    assert child.log_tail().split() == ["up", str(child.pid), str(child.pid)]
    assert child.pid != os.getpgrp()


def test_stop_is_graceful(start: Start) -> None:
    child = start(GRACEFUL)
    assert child.running
    assert child.stop() == 7
    assert child.stop() == 7
    assert child.returncode == 7
    assert not child.running


def test_stop_kills_what_ignores_sigterm(start: Start) -> None:
    assert start(STUBBORN, stop_timeout_s=0.05).stop() == -signal.SIGKILL


def test_stop_reaches_a_frozen_child(start: Start) -> None:
    child = start(GRACEFUL)
    child.send_signal(signal.SIGSTOP)
    assert child.stop() == 7


def test_kill_takes_the_whole_group(start: Start) -> None:
    child = start(PARENT_OF_ONE)
    grandchild = int(child.log_tail().split()[1])
    assert child.kill() == -signal.SIGKILL
    assert gone(grandchild)


def test_kill_of_an_ended_child_gives_its_status(start: Start) -> None:
    child = start(SLEEPER)
    child.stop()
    assert child.kill() == -signal.SIGTERM


def test_signals_reach_the_child_alone(start: Start) -> None:
    child = start(SLEEPER)
    child.send_signal(signal.SIGUSR1)  # unlike SIGINT, not ignored by what a shell runs in the background
    assert child.wait(DEADLINE_S) == -signal.SIGUSR1


def test_it_can_be_started_again(start: Start) -> None:
    child = start(SLEEPER)
    first = child.pid
    with pytest.raises(SetupError, match=f"runs already as process {first}"):
        child.start()
    child.kill()
    child.start()
    assert child.running
    assert child.pid != first


def test_an_early_end_is_told_at_once_with_the_last_lines(tmp_path: Path) -> None:
    child = ManagedProcess(
        name="broken", command=[sys.executable, "-c", "import sys; sys.exit('no such port')"], log=tmp_path / "log"
    )
    begin = time.monotonic()
    with (
        child,
        pytest.raises(SetupError, match=r"broken ended with exit status 1 before it was ready(.|\n)*no such port"),
    ):
        child.wait_ready(lambda: False, timeout_s=60)
    assert time.monotonic() - begin < 30


def test_the_deadline_of_readiness_is_told(start: Start) -> None:
    with pytest.raises(SetupError, match=r"child was not ready within 0\.05 s(.|\n)*up"):
        start(SLEEPER).wait_ready(lambda: False, timeout_s=0.05)


def test_a_wait_that_is_too_long_is_told(start: Start) -> None:
    with pytest.raises(SetupError, match=r"child still runs after 0\.01 s"):
        start(SLEEPER).wait(0.01)


def test_what_was_never_started(tmp_path: Path) -> None:
    child = ManagedProcess(name="idle", command=["true"], log=tmp_path / "log")
    assert child.stop() is None
    assert child.returncode is None
    assert not child.running
    assert child.log_tail() == ""
    with pytest.raises(SetupError, match="idle was never started"):
        _ = child.pid


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = ManagedProcess(name="tool", command=["k2-no-such-command"], log=tmp_path / "log")
    with child, pytest.raises(SetupError, match=r"exit status 127(.|\n)*cannot run k2-no-such-command"):
        child.wait_ready(lambda: False, timeout_s=DEADLINE_S)


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    child = ManagedProcess(name="child", command=["true"], log=tmp_path / "file" / "log")
    with pytest.raises(SetupError, match=r"cannot start child with its log .*file/log: (Not a directory|File exists)"):
        child.start()


def test_a_child_that_said_nothing(tmp_path: Path) -> None:
    child = ManagedProcess(name="silent", command=["false"], log=tmp_path / "log")
    with child, pytest.raises(SetupError, match=r"log .* has no line of it"):
        child.wait_ready(lambda: False, timeout_s=DEADLINE_S)


def test_a_long_log_is_set_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOG_LIMIT_BYTES", 5)
    child = ManagedProcess(name="child", command=["echo", "123456"], log=tmp_path / "log")
    for _ in range(2):
        child.start()
        child.wait(DEADLINE_S)
    assert child.log_tail() == "123456"
    assert (tmp_path / "log").read_text() == "123456\n"
    assert (tmp_path / "log.1").read_text() == "123456\n"


def test_the_tail_holds_the_last_start_only(tmp_path: Path) -> None:
    child = ManagedProcess(name="child", command=["sh", "-c", "echo $$"], log=tmp_path / "log")
    for _ in range(2):
        child.start()
        child.wait(DEADLINE_S)
        assert child.log_tail() == str(child.pid)
    assert len((tmp_path / "log").read_text().splitlines()) == 2


def test_environment_and_folder_are_given(tmp_path: Path) -> None:
    child = ManagedProcess(
        name="child", command=["sh", "-c", "echo $K2_X $PWD"], log=tmp_path / "log", env={"K2_X": "1"}, cwd=tmp_path
    )
    with child:
        child.wait(DEADLINE_S)
    assert child.log_tail() == f"1 {tmp_path}"


def test_passed_files_stay_open(start: Start, tmp_path: Path) -> None:
    with (tmp_path / "passed").open("w") as stream:
        program = (
            f"import os, time; os.write({stream.fileno()}, b'from the child'); print('up', flush=True); time.sleep(60)"
        )
        start(program, pass_fds=(stream.fileno(),))
    assert (tmp_path / "passed").read_text() == "from the child"


def test_a_child_outlives_the_thread_that_started_it(start: Start) -> None:
    children: list[ManagedProcess] = []
    thread = threading.Thread(target=lambda: children.append(start(SLEEPER)))
    thread.start()
    thread.join()
    with pytest.raises(SetupError, match="still runs"):
        children[0].wait(0.2)


if sys.platform == "linux":  # which alone ends children with their parent

    @pytest.mark.parametrize("thread", [False, True], ids=["main-thread", "other-thread"])
    def test_a_child_dies_with_a_killed_parent(thread: bool, tmp_path: Path) -> None:
        program = f"""
            import threading, time
            from pathlib import Path
            from k2_cli.stack.process import ManagedProcess
            log = Path({str(tmp_path)!r}) / "log"
            child = ManagedProcess(name="child", command=["sh", "-c", "echo up; exec sleep 60"], log=log)
            if {thread}:
                worker = threading.Thread(target=child.start)
                worker.start()
                worker.join()
            else:
                child.start()
            child.wait_ready(lambda: "up" in child.log_tail(), timeout_s={DEADLINE_S})
            print(child.pid, flush=True)
            time.sleep(60)
        """
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            child_pid = int(parent.stdout.readline())
            assert psutil.pid_exists(child_pid)
            parent.kill()
        assert gone(child_pid)
