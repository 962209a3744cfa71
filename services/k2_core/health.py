"""Liveness and metrics over HTTP for services that have no API of their own.

A check says what is wrong or nothing; it must be quick and must not call anything remote. `/health` is 200 when every
check is content and 503 otherwise, with each check's word; `/metrics` is Prometheus' text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry

from k2_core.errors import SetupError
from k2_core.metrics import CONTENT_TYPE, exposition

Check = Callable[[], str | None]
"""Returns None when content, else one line that says what is wrong."""


def report(checks: Mapping[str, Check]) -> tuple[bool, dict[str, Any]]:
    """Return whether all checks are content, and the document that says so."""
    problems = {name: check() for name, check in checks.items()}
    healthy = not any(problems.values())
    return healthy, {
        "status": "ok" if healthy else "unhealthy",
        "checks": {name: problem or "ok" for name, problem in problems.items()},
    }


class HealthServer:
    """Serves `/health` and `/metrics` from a thread until closed.

    Args:
        host: Where to listen; loopback on a laptop.
        port: 0 for any free one; `port` then says which.
        registry: What `/metrics` shows.
        checks: What `/health` asks, by name.

    Raises:
        SetupError: The port is taken.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, checks: Mapping[str, Check]) -> None:
        handler = type("Handler", (_Handler,), {"registry": registry, "checks": dict(checks)})
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
    checks: Mapping[str, Check]

    def do_GET(self) -> None:  # the standard library's name
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE, exposition(self.registry))
        elif self.path == "/health":
            healthy, document = report(self.checks)
            self._answer(200 if healthy else 503, "application/json", json.dumps(document).encode())
        else:
            self._answer(404, "text/plain", b"expected /health or /metrics\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Stay silent: scrapes every few seconds would drown the log."""
