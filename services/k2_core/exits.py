"""How a service's process ends: its exit status, and its last line where Kubernetes looks for it.

Called by the `__main__` of each service. The operator puts the line into a condition.
"""

from __future__ import annotations

import logging
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import Final

from k2_core.errors import K2Error, SpecError, StateError

MESSAGE_PATH: Final = "K2_TERMINATION_MESSAGE_PATH"
"""Names the file for the last line, `/dev/termination-log` in pods. Read even where no settings could be."""
MAX_MESSAGE_BYTES: Final = 4096
"""What Kubernetes keeps of it (https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure)."""

_log = logging.getLogger(__name__)


class ExitStatus(IntEnum):
    """The statuses that services share."""

    DRAINED = 0
    WRONG_SETTINGS = 2
    """A setting or the pipeline file is wrong: it fails again until somebody changes it."""
    CANNOT_GO_ON = 3
    """Something that is needed is not there: to be started again."""
    REFUSED = 5
    """What the table or the log holds forbids going on until a person decides; the line names the command to run."""


def exit_status(error: K2Error) -> ExitStatus:
    """Return the status that an error ends a service with."""
    if isinstance(error, SpecError):
        return ExitStatus.WRONG_SETTINGS
    if isinstance(error, StateError):
        return ExitStatus.REFUSED
    return ExitStatus.CANNOT_GO_ON


def last_word(service: str, error: K2Error) -> ExitStatus:
    """Say why a service ends, in one line for people and one for Kubernetes, and return the exit status.

    Args:
        service: Such as `k2-sink`.
        error: What ended it.
    """
    text = " ".join(f"{service}: {error}".split())
    if logging.getLogger().handlers:
        logging.getLogger(service).critical("%s", error)
    else:  # the logging's own settings may be what is wrong
        sys.stderr.write(f"{text}\n")
    say(text)
    return exit_status(error)


def say(text: str) -> None:
    """Leave a line where Kubernetes looks for it, if a place is named."""
    if path := os.environ.get(MESSAGE_PATH):
        try:
            Path(path).write_bytes(text.encode()[:MAX_MESSAGE_BYTES])
        except OSError as fault:
            _log.warning("the termination message was not written", extra={"path": path, "error": str(fault)})
