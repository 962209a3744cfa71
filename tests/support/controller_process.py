"""A process that decides for a pipeline, and the figures that it shows, for tests and benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from k2_cli.stack.ports import find_free
from k2_core.errors import SetupError
from support.waiting import PATIENCE_S, wait_until

LOOKED: Final = 'k2_controller_turns_total{outcome="looked"}'
_END_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Controller:
    """What a controller shows at an address."""

    url: str

    def figure(self, name: str) -> float:
        """Return one of its figures; it must be there, as its absence is not a 0."""
        if (found := figure_in(httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S).text, name)) is None:
            raise SetupError(f"the controller has no figure {name}, expected one")
        return found

    def looked(self, times: int) -> bool:
        """Return whether it answers, and has looked at the pipeline so often."""
        try:
            text = httpx.get(f"{self.url}/metrics").text
        except httpx.TransportError:
            return False
        return (figure_in(text, LOOKED) or 0) >= times


class ControllerProcess:
    """A running `python -m k2_cli.controller`, which has looked once or more when this is made.

    Args:
        environment: Its variables, as of a sink; where it serves its figures is added.
        log: Where it writes what it says.
        looks: How often it is to have looked by then.
        timeout_s: How long that may take, in seconds.
    """

    def __init__(
        self, environment: Mapping[str, str], log: Path, looks: int = 1, timeout_s: float = PATIENCE_S
    ) -> None:
        port = find_free(str(log))
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "k2_cli.controller"],
                env={**os.environ, **environment, "K2_METRICS_PORT": str(port)},
                stderr=stderr,
            )
        self.shown = Controller(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: self.shown.looked(looks), f"the controller to look {looks} times", timeout_s)
        except BaseException:
            self.kill()
            raise

    def terminate(self) -> int:
        """Ask it to stop, and return its exit status."""
        self.process.terminate()
        return self.process.wait(_END_S)

    def kill(self) -> None:
        """End it without warning, if it still runs."""
        self.process.kill()
        self.process.wait(_END_S)


def figure_in(text: str, name: str) -> float | None:
    """Return the figure with exactly this name and labels from a page of metrics, None while it is absent."""
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return None
