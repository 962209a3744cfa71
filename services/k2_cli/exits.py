"""Exit codes of every `k2` command, and the translation of errors into them.

The one edge at which K2's errors meet a shell; called by `k2_cli.main`. Pure.
"""

from __future__ import annotations

import enum

from k2_core.errors import K2Error, QueryError, RecordError, RetryableError, SpecError, StateError


class ExitCode(enum.IntEnum):
    """What a shell learns from a command."""

    OK = 0
    NOT_WELL = 1
    """The command worked and its answer is no: not complete, not healthy, not running."""
    BAD_INPUT = 2
    """An option, a parameter or the pipeline file is wrong."""
    SETUP = 3
    """This machine or this folder lacks something: a port, a download, disk space, a usable state."""
    UNAVAILABLE = 4
    """Something that is reached over a socket does not answer now; the same command may succeed later."""
    REFUSED = 5
    """What the table or the log holds forbids going on until a person decides; the message names the command to run."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C or SIGTERM before it had finished (128 + SIGINT, as shells say)."""


def exit_code_of(error: K2Error) -> ExitCode:
    """Return the code that tells a shell about an error."""
    if isinstance(error, SpecError | QueryError | RecordError):
        return ExitCode.BAD_INPUT
    if isinstance(error, RetryableError):
        return ExitCode.UNAVAILABLE
    if isinstance(error, StateError):
        return ExitCode.REFUSED
    return ExitCode.SETUP
