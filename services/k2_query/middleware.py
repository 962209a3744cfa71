"""What happens to every request: a correlation id, the key, figures, and an answer even where the service fails.

Plain ASGI: Starlette's base class for middleware would hide a client that hangs up.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2_core.logs import correlation
from k2_query.auth import KEY_HEADER, KeyRing
from k2_query.caller import calling
from k2_query.encode import to_json
from k2_query.metrics import QueryMetrics
from k2_query.problems import CONTENT_TYPE, INTERNAL, UNAUTHORISED, Problem

CORRELATION_HEADER: Final = "X-Correlation-ID"
OPEN_PATHS: Final = frozenset({"/health", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json"})
"""Need no key: they hold no market data, and probes and scrapers have none."""
_CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""Anything else could forge lines of a log."""
_log = logging.getLogger(__name__)


class EveryRequest:
    """Wraps the application.

    Args:
        app: The routes.
        keys: Who may ask.
        metrics: Requests by route.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, metrics: QueryMetrics) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with correlation(_given_id(Headers(scope=scope))) as correlation_id:
            scope.setdefault("state", {})["correlation_id"] = correlation_id
            await self._timed(scope, receive, send, correlation_id)

    async def _timed(self, scope: Scope, receive: Receive, send: Send, correlation_id: str) -> None:
        started = time.perf_counter()
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[CORRELATION_HEADER] = correlation_id
            await send(message)

        try:
            await self._answer(scope, receive, tagged)
        except Exception:  # noqa: BLE001  # policy: the last resort; logged here, and the client gets an id to ask about
            _log.exception("a request failed", extra={"path": scope["path"]})
            if not status:
                await respond(INTERNAL, correlation_id)(scope, receive, tagged)
        finally:
            route = _route(scope)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["path"] not in OPEN_PATHS:
            owner = self._keys.owner(Headers(scope=scope).get(KEY_HEADER), client[0] if client else None)
            if owner is None:
                await respond(UNAUTHORISED, scope["state"]["correlation_id"])(scope, receive, send)
                return
            with calling(owner):
                await self._app(scope, receive, send)
            return
        await self._app(scope, receive, send)


def respond(problem: Problem, correlation_id: str | None) -> Response:
    """Return a problem as a response."""
    body = to_json(problem.document(correlation_id))
    return Response(body, problem.status, dict(problem.headers), CONTENT_TYPE)


def _given_id(headers: Headers) -> str | None:
    given = headers.get(CORRELATION_HEADER)
    return given if given is not None and _CORRELATION_ID.fullmatch(given) else None


def _route(scope: MutableMapping[str, Any]) -> str:
    """Return the route's pattern: paths themselves would make a series of metrics for each symbol, or each attack."""
    return getattr(scope.get("route"), "path", "unmatched")
