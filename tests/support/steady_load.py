"""Somebody who asks a pipeline's API all the time, and remembers every answer that was none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from support.feed import Feed
from support.site import API_KEY

_LONGEST_S: Final = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request.

    Args:
        status: Of HTTP, 0 without an answer.
        body: The document, or what there was instead.
        asked_at: Before it was sent, UTC.
    """

    status: int
    body: Any
    asked_at: datetime


@dataclass
class SteadyLoad:
    """Asks one question again and again while the block lasts.

    Args:
        feed: Whose API.
        path: What is asked.
        parameters: Of the question.
    """

    feed: Feed
    path: str
    parameters: Mapping[str, object]
    outcomes: list[Outcome] = field(default_factory=list)
    asked_at: datetime | None = None
    """Of the request that has no answer yet."""
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> SteadyLoad:
        service = self.feed.site.get(self.feed.name, "service", f"{self.feed.name}-query")
        assert service is not None
        query = "&".join(f"{name}={value}" for name, value in self.parameters.items())
        address = f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
        self._thread = threading.Thread(target=self._run, args=(f"http://{address}{self.path}?{query}",), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        assert self._thread is not None
        self._thread.join()

    @property
    def failed(self) -> list[Outcome]:
        """What was no answer."""
        return [one for one in self.outcomes if one.status != 200]

    def waiting(self, least_s: float) -> datetime | None:
        """Return since when a request has had no answer, if that is so long."""
        since = self.asked_at
        return since if since is not None and (datetime.now(UTC) - since).total_seconds() >= least_s else None

    def _run(self, url: str) -> None:
        while not self._stopping.is_set():
            self.asked_at = asked_at = datetime.now(UTC)
            done = self.feed.site.run(
                "curl", "--silent", "--max-time", str(_LONGEST_S), "--header", f"X-API-Key: {API_KEY}",
                "--write-out", "\n%{http_code}", url,
            )  # fmt: skip
            text, _, status = done.stdout.rpartition("\n")
            try:
                body = json.loads(text)
            except ValueError:
                body = text
            self.asked_at = None
            self.outcomes.append(Outcome(int(status or 0), body, asked_at))
            time.sleep(0.1)
