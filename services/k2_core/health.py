"""Liveness, readiness, health and metrics over HTTP for services that have no API of their own.

A check says what is wrong or nothing; it must be quick and must not call anything remote. A path of checks is 200 when
every one is content and 503 otherwise, with each check's word; `/metrics` is Prometheus' text.

`/livez` asks for what only a restart heals: that the main loop goes round. A Kafka or catalog that is away is none of
its business; restarts would only add to the trouble. `/readyz` asks whether the service can do its work now, `/health`
whether all is well, for people.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final

from prometheus_client import CollectorRegistry

from k2_core.errors import SetupError
from k2_core.metrics import CONTENT_TYPE, exposition

Check = Callable[[], str | None]
"""Returns None when content, else one line that says what is wrong."""


LIVE_WITHIN_S: Final = 180.0
"""The longest that a main loop may take to come round. What it waits for has limits of its own that are shorter: 30 s
for Kafka's admin answers, 60 s for a catalog, some 60 s for a request to the warehouse with the library's retries."""


class Heartbeat:
    """Says whether a loop still goes round; the loop calls `beat` each time, and in between when it waits on purpose.

    Args:
        limit_s: The longest time between two beats.
        clock: Monotonic seconds.
    """

    def __init__(self, limit_s: float = LIVE_WITHIN_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._at = clock()

    def beat(self) -> None:
        """Note that the loop has come round."""
        self._at = self._clock()

    def check(self) -> str | None:
        """See `Check`."""
        age_s = self._clock() - self._at
        if age_s <= self._limit_s:
            return None
        return f"found no progress for {age_s:.0f} s, expected some within {self._limit_s:g} s"


def report(checks: Mapping[str, Check]) -> tuple[bool, dict[str, Any]]:
    """Return whether all checks are content, and the document that says so."""
    problems = {name: check() for name, check in checks.items()}
    healthy = not any(problems.values())
    return healthy, {
        "status": "ok" if healthy else "unhealthy",
        "checks": {name: problem or "ok" for name, problem in problems.items()},
    }


class HealthServer:
    """Serves the probes and `/metrics` from a thread until closed.

    Args:
        host: Where to listen; loopback on a laptop.
        port: 0 for any free one; `port` then says which.
        registry: What `/metrics` shows.
        checks: What `/health` asks, by name.
        live: What `/livez` asks.
        ready: What `/readyz` asks.

    Raises:
        SetupError: The port is taken.
    """

    def __init__(  # noqa: PLR0913  # an address, and what is served there by path
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        checks: Mapping[str, Check],
        *,
        live: Mapping[str, Check] | None = None,
        ready: Mapping[str, Check] | None = None,
    ) -> None:
        probes = {"/health": checks, "/livez": live or {}, "/readyz": ready or {}}
        handler = type("Handler", (_Handler,), {"registry": registry, "probes": probes})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise SetupError(f"metrics port: found {host}:{port} in use ({error}), expected it free") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)

    def __enter__(self) -> HealthServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    probes: Mapping[str, Mapping[str, Check]]

    def do_GET(self) -> None:  # the standard library's name
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE, exposition(self.registry))
        elif (checks := self.probes.get(self.path)) is not None:
            healthy, document = report(checks)
            self._answer(200 if healthy else 503, "application/json", json.dumps(document).encode())
        else:
            self._answer(404, "text/plain", b"expected /health, /livez, /readyz or /metrics\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Stay silent: scrapes every few seconds would drown the log."""
