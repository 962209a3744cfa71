"""What the middleware does that the API's own routes never provoke; the rest is in test_app.py."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from k2_query.auth import key_ring
from k2_query.caller import current_key_id
from k2_query.metrics import QueryMetrics
from k2_query.middleware import EveryRequest
from k2_query.settings import DEVELOPMENT_KEY, QuerySettings

METRICS = QueryMetrics(CollectorRegistry())
KEYS = key_ring(QuerySettings(embedded=True))


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/docs":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError("with a secret in it")


def test_a_failure_is_a_problem_without_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(EveryRequest(broken, KEYS, METRICS))
        async with httpx.AsyncClient(transport=transport, base_url="http://k2") as client:
            return await client.get("/health")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]
    assert "with a secret in it" in caplog.text


def test_a_failure_after_the_head_was_sent_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/docs", "headers": [], "client": None}
    asyncio.run(EveryRequest(broken, KEYS, METRICS)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert "a request failed" in caplog.text


def test_what_is_not_http_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> Message:
        return {}

    async def ignore(_: Message) -> None: ...

    asyncio.run(EveryRequest(app, KEYS, METRICS)({"type": "lifespan"}, nothing, ignore))
    assert seen == ["lifespan"]


def test_who_asks_is_known_while_it_works() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_key_id())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def ask(path: str, **headers: str) -> int:
        transport = httpx.ASGITransport(EveryRequest(app, KEYS, METRICS), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://k2", headers=headers) as client:
            return (await client.get(path)).status_code

    assert asyncio.run(ask("/v1/trades", **{"X-API-Key": DEVELOPMENT_KEY})) == 200
    assert asyncio.run(ask("/v1/trades")) == 401
    assert asyncio.run(ask("/health")) == 200
    assert seen == [DEVELOPMENT_KEY, None]
