"""Becomes another command that the kernel ends when its parent ends.

Owns one thing: between fork and exec of a child, in a process of a single thread, ask Linux for a SIGKILL at the
parent's death (prctl(2), PR_SET_PDEATHSIG), then exec the real command, which keeps both the process id and the
request. Doing the same in a `preexec_fn` is unsafe in a parent with threads. `k2_cli.stack.process` runs this file by
path, so that the interpreter starts without site-packages (10 ms); nothing of K2 is imported here, and it must stay so.

Elsewhere than on Linux it only execs: there a parent that is killed leaves its children behind.

    python -I -S guard.py PARENT_PID COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


def die_with_parent(parent_pid: int, death_signal: int = signal.SIGKILL) -> bool:
    """Asks the kernel to send this process a signal when its parent ends.

    Args:
        parent_pid: Who must be the parent; a parent that died before the request would never trigger it.
        death_signal: What is sent; 0 withdraws the request.

    Returns:
        False if the parent is already another process, so that the caller must end at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal)
    return os.getppid() == parent_pid


def main(arguments: list[str]) -> int:
    """Execs the command; returns (with a shell's exit status) only when that is impossible."""
    parent_pid, command = int(arguments[0]), arguments[1:]
    if not die_with_parent(parent_pid):
        return 128 + signal.SIGKILL
    try:
        os.execvp(command[0], command)  # noqa: S606 -- becoming the command is the purpose; no shell is wanted
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
