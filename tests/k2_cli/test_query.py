"""`k2 query` against servers on loopback that answer in each way; the real API is asked in tests/integration."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from support.cli import k2

ROW = {
    "event_time": "2026-01-01T00:00:00Z",
    "symbol": "BTCUSDT",
    "trade_id": "7",
    "side": "buy",
    "price": "1.5",
    "quantity": "2",
}


class Api:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: object = {"data": [ROW], "meta": {"query_time_ms": 3.14, "complete": True, "warnings": []}}
        self.content_type = "application/json"
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        self.url = ""


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            found.asked.append((url.path, parse_qs(url.query), self.headers.get("X-API-Key")))
            self.send_response(found.status)
            self.send_header("Content-Type", found.content_type)
            self.end_headers()
            text = found.body if isinstance(found.body, str) else json.dumps(found.body)
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()
        thread.join()


def test_the_newest_trades_as_a_table(api: Api) -> None:
    answer = k2("query", "btcusdt", "--window", "15m", "--limit", 5, "--url", api.url)
    assert answer.code == 0
    assert answer.out.splitlines()[1].split() == list(ROW.values())
    assert answer.out.splitlines()[-1] == "1 trades, 3.1 ms"
    wanted = {"symbol": ["BTCUSDT"], "limit": ["5"], "window": ["15m"]}
    assert api.asked == [("/v1/trades/recent", wanted, "k2-dev-api-key-2026")]


def test_times_ask_for_history_with_the_given_key(api: Api) -> None:
    answer = k2("query", "BTCUSDT", "--start", "2026-01-01T00:00:00Z", "--url", api.url, "--api-key", "a.b", "--json")
    assert answer.document == api.body
    wanted = {"symbol": ["BTCUSDT"], "limit": ["20"], "start": ["2026-01-01T00:00:00Z"]}
    assert api.asked == [("/v1/trades", wanted, "a.b")]


def test_an_incomplete_answer_is_exit_1_with_its_warnings(api: Api) -> None:
    api.body = {"data": [], "meta": {"complete": False, "warnings": ["the log begins after the table ends"]}}
    answer = k2("query", "BTCUSDT", "--url", api.url)
    assert answer.code == 1
    assert answer.out.splitlines()[-1] == "0 trades, NOT complete"
    assert "the log begins after the table ends" in answer.err


@pytest.mark.parametrize(
    ("status", "content_type", "body", "code", "said"),
    [
        pytest.param(400, "application/problem+json", {"detail": "limit: found 0"}, 2, "limit: found 0", id="400"),
        pytest.param(422, "application/json", ["odd"], 2, "odd", id="another shape"),
        pytest.param(401, "application/problem+json", {"detail": "no key"}, 3, "API key: found HTTP 401", id="401"),
        pytest.param(404, "text/html", "<h1>no</h1>", 2, "<h1>no</h1>", id="no K2"),
        pytest.param(429, "application/json", {"detail": "slow down"}, 4, "found HTTP 429 (slow down)", id="429"),
        pytest.param(503, "application/json", {"detail": "no catalog"}, 4, "found HTTP 503 (no catalog)", id="503"),
    ],
)
def test_refusals_have_their_exit_codes(
    api: Api, status: int, content_type: str, body: object, code: int, said: str
) -> None:
    api.status, api.content_type, api.body = status, content_type, body
    answer = k2("query", "BTCUSDT", "--url", api.url)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_nobody_there_is_exit_4(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        url = f"http://127.0.0.1:{closing.getsockname()[1]}"
    assert k2("query", "BTCUSDT", "--url", url).code == 4
    nothing = k2("query", "BTCUSDT", "--dir", tmp_path)
    assert nothing.code == 4
    assert f"found nothing running on {tmp_path}" in nothing.err


def test_a_window_and_times_contradict_each_other() -> None:
    answer = k2("query", "BTCUSDT", "--window", "1h", "--end", "2026-01-01T00:00:00Z")
    assert answer.code == 2
    assert "--window: found --start or --end too" in answer.err
