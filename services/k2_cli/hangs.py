"""Services of `k2 up` that hang: ended, so that the supervisor starts them again.

What a cluster's liveness probe does: `/livez` says when only a restart helps, and who is silent for as long is no
better off. Called by `k2_cli.up` from the thread that drives the supervisor. It never starts anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from k2_cli.output import Say
from k2_cli.scrape import Scraper
from k2_cli.supervisor import Child, Supervisor
from k2_core.health import LIVE_WITHIN_S

ASK_EVERY_S: Final = 10.0
AGAIN_AFTER_S: Final = 300.0
"""A service is not ended more often: what hangs again at once is not healed so."""


@dataclass(slots=True)
class _Seen:
    """What is remembered of a service: when it was last well, and last ended here."""

    well_s: float
    ended_s: float | None = None


class Hangs:
    """Asks the services of one `k2 up` whether they are alive.

    Args:
        supervisor: Of the services.
        urls: Bases of their `/livez`, by name.
        say: Tells the user.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        urls: Mapping[str, str],
        say: Say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supervisor = supervisor
        self._urls = urls
        self._say = say
        self._clock = clock
        self._scraper = Scraper()
        self._asked_s = clock()
        self._seen: dict[str, _Seen] = {}

    def check(self) -> None:
        """Ask all services, if it is time to, and end those that hang."""
        if self._clock() - self._asked_s < ASK_EVERY_S:
            return
        for child in self._supervisor.children:
            url = self._urls.get(child.name)
            if url is not None and child.unit.running and not child.retiring:
                self._look_at(child, url)
        self._asked_s = self._clock()

    def _look_at(self, child: Child, url: str) -> None:
        now_s = self._clock()
        seen = self._seen.setdefault(child.name, _Seen(now_s))
        live = self._scraper.live(url)
        if live:
            seen.well_s = now_s
            return
        silent_s = now_s - seen.well_s
        if live is None and silent_s < LIVE_WITHIN_S:
            return
        if seen.ended_s is not None and now_s - seen.ended_s < AGAIN_AFTER_S:
            return
        seen.ended_s = now_s
        what = f"has not answered for {silent_s:.0f} s" if live is None else "says that only a restart helps"
        self._say(f"{child.name} {what}: ended; nothing is lost")
        child.unit.kill()

    def close(self) -> None:
        """Close the connections."""
        self._scraper.close()
