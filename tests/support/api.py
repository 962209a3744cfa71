"""The query service for tests: the real routes behind a real HTTP server, in this process, and a client for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import uvicorn

from k2_core.spec import Pipeline
from k2_query import boundary
from k2_query.app import create_app
from k2_query.auth import KEY_HEADER, key_ring
from k2_query.runner import Runner
from k2_query.runtime import Runtime
from k2_query.settings import DEVELOPMENT_KEY, QuerySettings
from support.query import World
from support.waiting import wait_until

WAIT_S: Final = 20.0


@dataclass
class Api:
    """A running service."""

    runtime: Runtime
    client: httpx.Client

    def once(self, path: str, status: int = 200, **parameters: Any) -> dict[str, Any]:
        """The body of an answer that must have a status."""
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == status, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def get(self, path: str, status: int = 200, **parameters: Any) -> dict[str, Any]:
        """The same, asked for again while it is short for want of time."""
        return in_time(lambda: self.once(path, status, **parameters))

    def whole(self, path: str, **parameters: Any) -> dict[str, Any]:
        """The body of an answer that must be complete."""
        body = self.get(path, 200, **parameters)
        assert body["meta"]["incomplete_ranges"] == []
        assert body["meta"]["complete"] is True
        return body

    def ids(self, **parameters: Any) -> list[str]:
        """The ids of `/v1/trades`, which must be complete."""
        parameters = {"symbol": "BTCUSDT", "limit": 10_000} | parameters
        return [row["message_id"] for row in self.whole("/v1/trades", **parameters)["data"]]


def in_time(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer that is not short for want of time: where Kafka or the tail takes too long, an answer says so."""

    def asked() -> dict[str, Any] | None:
        body = ask()
        reasons = {gap["reason"] for gap in body.get("meta", {}).get("incomplete_ranges", ())}
        return None if reasons & {boundary.UNREAD, boundary.NO_ANSWER} else body

    body: dict[str, Any] = wait_until(asked, "an answer for which there was time")
    return body


@contextmanager
def serve(settings: QuerySettings, pipeline: Pipeline) -> Iterator[Api]:
    """Runs the service until the end of the block; waits until it accepts connections, not until it is healthy."""
    runtime = Runtime(settings, pipeline)
    app = create_app(runtime, key_ring(settings), Runner(settings.query_concurrency, settings.query_timeout_s))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        wait_until(lambda: server.started, "the server")
        with httpx.Client(base_url=base_url, headers={KEY_HEADER: DEVELOPMENT_KEY}, timeout=WAIT_S) as client:
            yield Api(runtime, client)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def wait_healthy(api: Api) -> None:
    """Waits until Kafka, tail and catalog are well and the tail has caught up."""

    def healthy() -> bool:
        answer = api.client.get("/health")
        return answer.status_code == httpx.codes.OK and answer.json()["tail"]["unread_records"] == 0

    wait_until(healthy, "a healthy service")


def wait_healthy_but(api: Api, check: str) -> dict[str, Any]:
    """Waits until all is well but one check, and returns what `/health` says."""

    def others() -> bool:
        document = api.client.get("/health").json()
        return {name for name, said in document["checks"].items() if said != "ok"} == {check}

    wait_until(others, f"all well but {check}")
    found: dict[str, Any] = api.client.get("/health").json()
    return found


def wait_snapshot(api: Api, snapshot_id: int) -> None:
    """Waits until a snapshot is the pinned one."""

    def pinned() -> bool:
        head = api.runtime.lake.peek()
        return head is not None and head.snapshot.id == snapshot_id

    wait_until(pinned, f"snapshot {snapshot_id}")


def commit(world: World, api: Api, **how: Any) -> None:
    """Commits as a sink would, and waits until the service has pinned that."""
    world.commit(**how)
    wait_snapshot(api, world.head_id())
