"""k2_cli.source: the choice, and the look at the network against servers that behave in each way."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidProxyStatus
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from k2_cli.source import Asked, Choice, Kind, choose, decided, describe, probe, told
from k2_core.errors import SetupError

ASK_NOTHING = Asked()


@pytest.mark.parametrize("held", [None, "capture", "live"])
def test_captures_join_nothing_and_real_trades(held: str | None) -> None:
    choice = decided(Asked(captures=True), held, ".k2")
    assert choice is not None
    assert choice.kind is Kind.CAPTURE


@pytest.mark.parametrize("held", [None, "synthetic"])
def test_synthetic_trades_join_nothing_and_their_like(held: str | None) -> None:
    choice = decided(Asked(synthetic=True), held, ".k2")
    assert choice == Choice(Kind.SYNTHETIC, "--synthetic asks for them")


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        pytest.param(Asked(captures=True), "synthetic", id="captures into synthetic"),
        pytest.param(Asked(synthetic=True), "live", id="synthetic into live"),
        pytest.param(Asked(synthetic=True), "capture", id="synthetic into captured"),
    ],
)
def test_made_up_and_real_trades_are_never_mixed(asked: Asked, held: str) -> None:
    with pytest.raises(SetupError, match=rf"\.k2 holds {held} trades, expected none or .*use another --dir"):
        decided(asked, held, ".k2")


def test_a_folder_of_synthetic_trades_needs_no_look_at_the_network() -> None:
    choice = decided(ASK_NOTHING, "synthetic", ".k2")
    assert choice is not None
    assert choice.kind is Kind.SYNTHETIC
    assert "holds synthetic trades" in choice.reason


@pytest.mark.parametrize("held", [None, "live", "capture"])
def test_otherwise_the_network_decides(held: str | None) -> None:
    assert decided(ASK_NOTHING, held, ".k2") is None
    assert choose(None, held, ".k2") == Choice(Kind.LIVE, "it answers")


def test_without_an_exchange_a_new_folder_gets_synthetic_trades_and_the_reason() -> None:
    assert choose("no network", None, ".k2") == Choice(Kind.SYNTHETIC, "no network")


def test_without_an_exchange_a_folder_of_live_trades_waits_for_it() -> None:
    choice = choose("no network", "live", ".k2")
    assert choice.kind is Kind.LIVE
    assert choice.reason.startswith("no network; .k2 holds its trades")


def test_without_an_exchange_a_folder_of_captures_gets_nothing_made_up() -> None:
    with pytest.raises(SetupError, match=r"no network, and \.k2 holds captured trades"):
        choose("no network", "capture", ".k2")


@contextmanager
def running(server: Server) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/stream?streams=btcusdt@trade"
    server.shutdown()
    thread.join()


def _quote(connection: ServerConnection) -> None:
    connection.send('{"stream":"btcusdt@trade","data":{}}')
    connection.recv(timeout=5)


def _silence(connection: ServerConnection) -> None:
    connection.recv(timeout=5)


def test_an_exchange_that_sends_a_message_answers() -> None:
    with running(serve(_quote, "127.0.0.1", 0)) as url:
        assert probe(url, 5.0) is None


def test_an_exchange_that_stays_silent_does_not() -> None:
    with running(serve(_silence, "127.0.0.1", 0)) as url:
        assert (probe(url, 0.3) or "").endswith("within 0.3 s")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS, "refuses this region (HTTP 451)", id="451"),
        pytest.param(HTTPStatus.FORBIDDEN, "refuses this region (HTTP 403)", id="403"),
        pytest.param(HTTPStatus.TOO_MANY_REQUESTS, "refuses this address for a while (HTTP 429)", id="429"),
        pytest.param(HTTPStatus.BAD_GATEWAY, "answered with HTTP 502, expected 101", id="502"),
    ],
)
def test_a_refusal_says_why(status: HTTPStatus, said: str) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return Response(status.value, status.phrase, Headers())

    with running(serve(_quote, "127.0.0.1", 0, process_request=refuse)) as url:
        assert said in (probe(url, 5.0) or "")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    assert probe(f"ws://127.0.0.1:{port}/ws", 2.0) == f"127.0.0.1:{port} refused the connection"


def test_a_name_that_does_not_exist() -> None:
    # RFC 6761: names below .invalid never resolve.
    assert probe("wss://exchange.invalid/ws", 5.0) == "no network: exchange.invalid cannot be resolved"


def test_a_listener_that_never_answers_the_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert probe(f"ws://127.0.0.1:{port}/ws", 0.3) == f"no answer from 127.0.0.1:{port} within 0.3 s"


def test_a_server_that_speaks_something_else() -> None:
    def greet(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"220 mail.example ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=(server,))
        thread.start()
        assert "speaks no WebSocket" in (probe(f"ws://127.0.0.1:{server.getsockname()[1]}/ws", 2.0) or "")
        thread.join()


def test_tls_against_a_server_without_it_is_not_trusted() -> None:
    with running(serve(_quote, "127.0.0.1", 0)) as url:
        assert "cannot be trusted" in (probe(url.replace("ws:", "wss:"), 2.0) or "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(OSError(101, "Network is unreachable"), "no network: host cannot be reached", id="unreachable"),
        pytest.param(ssl.SSLError(1, "self-signed certificate"), "host cannot be trusted", id="certificate"),
        pytest.param(
            InvalidProxyStatus(Response(407, "Proxy Authentication Required", Headers())),
            "no network: the proxy refused host (HTTP 407)",
            id="proxy",
        ),
    ],
)
def test_other_failures_in_words(error: Exception, said: str) -> None:
    assert said in describe(error, "host", 5.0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.LIVE, "the live exchange at wss://a (why)"),
        (Kind.CAPTURE, "K2's own exchange, replaying 2 capture(s)"),
        (Kind.SYNTHETIC, "K2's own exchange with synthetic trades (why)"),
        (Kind.FILES, "files (why)"),
    ],
)
def test_a_choice_in_words(kind: Kind, words: str) -> None:
    assert told(Choice(kind, "why"), ["wss://a"], 2) == words
