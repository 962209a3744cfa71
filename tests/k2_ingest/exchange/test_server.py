"""The exchange over real sockets, with websockets' own client and httpx."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from k2_core.errors import SetupError
from k2_ingest.exchange.config import CaptureSource, ExchangeConfig, Limits, SyntheticSource
from k2_ingest.exchange.server import Exchange, serve
from support.tls import self_signed

SOURCE = SyntheticSource(symbols=("BTCUSDT", "ETHUSDT"), rate=0, count=2_000)
STREAMS = "/stream?streams=btcusdt@trade/ethusdt@trade"
ENDLESS = replace(SOURCE, rate=200.0, count=None)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


@asynccontextmanager
async def exchange(config: ExchangeConfig) -> AsyncIterator[Exchange]:
    async with Exchange(config) as running:
        yield running


async def ask(connection: ClientConnection, **request: object) -> Any:
    await connection.send(json.dumps(request))
    return await answer(connection)


async def answer(connection: ClientConnection) -> Any:
    """The next control message, past market data."""
    while True:
        message = json.loads(await connection.recv())
        if "e" not in message and "stream" not in message:
            return message


async def status(running: Exchange) -> Any:
    async with httpx.AsyncClient(base_url=running.rest_url) as client:
        return (await client.get("/k2/status")).json()


def test_a_client_gets_all_in_order_and_then_1000() -> None:
    async def test() -> None:
        async with exchange(ExchangeConfig(SOURCE)) as running, connect(running.websocket_url + STREAMS) as client:
            received = [json.loads(message) async for message in client]
            assert client.close_code == 1000
            assert len(received) == 2_000
            for symbol in ("BTCUSDT", "ETHUSDT"):
                ids = [m["data"]["t"] for m in received if m["stream"] == f"{symbol.lower()}@trade"]
                assert ids == list(range(ids[0], ids[0] + len(ids)))
                counts = (await status(running))["streams"][f"{symbol.lower()}@trade"]
                assert counts == {"emitted": len(ids), "delivered": len(ids), "first_id": ids[0], "last_id": ids[-1]}
            assert (await status(running))["finished"] is True

    run(test)


def test_raw_and_microsecond_clients_get_the_same_trades() -> None:
    async def test() -> None:
        config = ExchangeConfig(SOURCE, start_clients=2)
        async with (
            exchange(config) as running,
            connect(running.websocket_url + "/ws/btcusdt@trade") as raw,
            connect(running.websocket_url + STREAMS + "&timeUnit=MICROSECOND") as micro,
        ):
            raws, micros = await asyncio.gather(*(_all(client) for client in (raw, micro)))
            wrapped = [m["data"] for m in micros if m["stream"] == "btcusdt@trade"]
            assert [m["t"] for m in raws] == [m["t"] for m in wrapped]
            assert [m["T"] for m in raws] == [m["T"] // 1_000 for m in wrapped]

    run(test)


async def _all(client: ClientConnection) -> list[Any]:
    return [json.loads(message) async for message in client]


def test_subscriptions_change_over_the_socket() -> None:
    async def test() -> None:
        async with (
            exchange(ExchangeConfig(ENDLESS)) as running,
            connect(running.websocket_url + "/ws") as client,
        ):
            assert await ask(client, method="SUBSCRIBE", params=["ethusdt@trade"], id=1) == {"result": None, "id": 1}
            assert json.loads(await client.recv())["s"] == "ETHUSDT"
            await ask(client, method="SET_PROPERTY", params=["combined", True], id=2)
            assert json.loads(await client.recv())["stream"] == "ethusdt@trade"
            await ask(client, method="UNSUBSCRIBE", params=["ethusdt@trade"], id=3)
            assert await ask(client, method="LIST_SUBSCRIPTIONS", id=4) == {"result": [], "id": 4}

    run(test)


def test_the_source_waits_for_its_clients() -> None:
    async def test() -> None:
        async with exchange(ExchangeConfig(SOURCE, start_clients=2)) as running:
            url = running.websocket_url + "/ws/btcusdt@trade"
            async with connect(url, max_queue=None):
                assert (await status(running))["streams"] == {}
                async with connect(url, max_queue=None):
                    await running.finished.wait()
            async with connect(running.websocket_url + "/ws/btcusdt@trade") as late:
                assert await _all(late) == []
                assert late.close_code == 1000

    run(test)


def test_a_reconnecting_client_continues_where_the_replay_stands() -> None:
    async def test() -> None:
        source = replace(SOURCE, symbols=("BTCUSDT",), count=100_000)
        async with exchange(ExchangeConfig(source)) as running:
            async with connect(running.websocket_url + "/ws/btcusdt@trade", max_queue=2) as first:
                before = [json.loads(await first.recv())["t"] for _ in range(100)]
                first.transport.abort()
            async with connect(running.websocket_url + "/ws/btcusdt@trade") as second:
                after = [message["t"] for message in await _all(second)]
            assert after[0] > before[-1] + 1
            assert after[-1] == before[0] + 99_999
            async with httpx.AsyncClient(base_url=running.rest_url) as client:
                query = {"symbol": "BTCUSDT", "fromId": before[-1] + 1, "limit": 1_000}
                missed = (await client.get("/api/v3/historicalTrades", params=query)).json()
            assert [trade["id"] for trade in missed] == list(range(before[-1] + 1, before[-1] + 1_001))

    run(test)


def test_the_server_pings_and_drops_who_does_not_answer() -> None:
    async def test() -> None:
        limits = Limits(ping_interval_s=0.3, pong_timeout_s=2.0)  # who answers must not be late for a busy machine
        async with (
            exchange(ExchangeConfig(ENDLESS, limits=limits)) as running,
            connect(running.websocket_url + "/ws", ping_interval=None) as good,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            pings = await _read_to_the_end(reader)
            writer.close()
            assert pings.startswith(b"\x89")
            assert (await status(running))["clients"] == 1
            assert good.close_code is None

    run(test)


async def _read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    received = b""
    try:
        while chunk := await reader.read(4_096):
            received += chunk
    except ConnectionError:
        pass
    return received


def test_a_connection_ends_with_its_lifetime() -> None:
    async def test() -> None:
        limits = Limits(connection_lifetime_s=0.1)
        async with (
            exchange(ExchangeConfig(ENDLESS, limits=limits)) as running,
            connect(running.websocket_url + "/ws") as client,
        ):
            await client.wait_closed()
            assert client.close_code == 1001

    run(test)


def test_a_chatty_client_is_disconnected() -> None:
    async def test() -> None:
        async with exchange(ExchangeConfig(ENDLESS)) as running, connect(running.websocket_url + "/ws") as client:
            for number in range(6):
                await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
            with pytest.raises(ConnectionClosed):
                await _all(client)
            assert client.close_code == 1008

    run(test)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/nowhere", 400), ("/ws?timeUnit=HOUR", 400), ("/stream?streams=" + "/".join("abcd"), 400)],
    ids=["path", "unit", "streams"],
)
def test_a_bad_handshake_is_refused(path: str, code: int) -> None:
    async def test() -> None:
        async with exchange(ExchangeConfig(ENDLESS, limits=Limits(streams=3))) as running:
            with pytest.raises(InvalidStatus) as refused:
                await connect(running.websocket_url + path)
            assert refused.value.response.status_code == code

    run(test)


def test_a_handshake_without_its_headers_is_refused() -> None:
    async def test() -> None:
        async with (
            exchange(ExchangeConfig(ENDLESS)) as running,
            httpx.AsyncClient(base_url=running.rest_url) as client,
        ):
            reply = await client.get("/ws", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
            assert reply.status_code == 400

    run(test)


def test_too_many_attempts_are_refused() -> None:
    async def test() -> None:
        async with exchange(ExchangeConfig(ENDLESS, limits=Limits(connection_attempts=1))) as running:
            async with connect(running.websocket_url + "/ws"):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(running.websocket_url + "/ws")
            assert refused.value.response.status_code == 429

    run(test)


def test_stop_warns_and_closes() -> None:
    async def test() -> None:
        running = Exchange(ExchangeConfig(ENDLESS, shutdown_notice_s=0.05))
        await running.start()
        async with connect(running.websocket_url + STREAMS) as client:
            await client.recv()
            stopping = asyncio.create_task(running.stop())
            messages = asyncio.create_task(_until_closed(client))
            await stopping
            assert (await messages)[-1]["data"]["e"] == "serverShutdown"
        assert client.close_code == 1001
        await running.stop()

    run(test)


async def _until_closed(client: ClientConnection) -> list[Any]:
    messages: list[Any] = []
    with suppress(ConnectionClosed):
        messages.extend([json.loads(message) async for message in client])
    return messages


def test_stop_cuts_a_client_that_does_not_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("k2_ingest.exchange.server.DETACH_TIMEOUT_S", 0.1)
        running = Exchange(ExchangeConfig(replace(SOURCE, count=None)))
        await running.start()
        async with connect(running.websocket_url + STREAMS, max_queue=1) as client:
            await client.recv()
            await asyncio.sleep(0)
            client.transport.pause_reading()
            await running.stop()
            client.transport.abort()

    run(test)


def test_a_slow_client_is_cut_at_a_paced_speed() -> None:
    async def test() -> None:
        source = replace(SOURCE, rate=200_000, count=None)
        async with (
            exchange(ExchangeConfig(source, client_buffer_bytes=100_000)) as running,
            connect(running.websocket_url + STREAMS, max_queue=1) as client,
        ):
            client.transport.pause_reading()
            while not (await status(running))["dropped_slow"]:
                await asyncio.sleep(0.01)
            client.transport.abort()

    run(test)


def test_a_paced_source_needs_no_listener_once_started() -> None:
    async def test() -> None:
        source = replace(SOURCE, rate=5_000, count=500)
        async with exchange(ExchangeConfig(source, start_clients=0)) as running:
            await running.finished.wait()
            streams = (await status(running))["streams"]
            assert sum(stream["emitted"] for stream in streams.values()) == 500
            assert all(stream["delivered"] == 0 for stream in streams.values())

    run(test)


def test_a_capture_is_replayed_byte_for_byte(tmp_path: Path) -> None:
    payloads = [b'{"e":"trade","s":"X","t":%d,"p":"1","q":"1","T":1,"m":false,"M":true}' % n for n in range(3)]
    lines = [b'%d {"stream":"x@trade","data":%b}\n' % (n, payload) for n, payload in enumerate(payloads)]
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"".join([*lines, b'9 {"lastUpdateId":1}\n', b"9 {torn\n"])))

    async def test() -> None:
        source = CaptureSource((tmp_path / "a.gz",), pass_malformed=True)
        async with (
            exchange(ExchangeConfig(source)) as running,
            connect(running.websocket_url + "/ws/x@trade") as client,
        ):
            assert [m.encode() async for m in client if isinstance(m, str)] == [*payloads, b"{torn"]
            assert (await status(running))["skipped"] == {"unwrapped": 1}

    run(test)


def test_a_capture_that_breaks_off_fails_the_exchange(tmp_path: Path) -> None:
    lines = b"".join(b'%d {"stream":"x@depth","data":{"n":%d}}\n' % (n, n) for n in range(100_000))
    (tmp_path / "a.gz").write_bytes(gzip.compress(lines)[:-100])

    async def test() -> None:
        config = ExchangeConfig(CaptureSource((tmp_path / "a.gz",)), start_clients=0)
        clients: list[asyncio.Task[list[Any]]] = []

        def join(running: Exchange) -> None:
            clients.append(asyncio.create_task(_listen(running.websocket_url + "/ws/x@depth")))

        with pytest.raises(SetupError, match=r"a\.gz"):
            await serve(config, stop=asyncio.Event(), ready=join)
        await asyncio.gather(*clients, return_exceptions=True)

    run(test)


async def _listen(url: str) -> list[Any]:
    async with connect(url) as client:
        return await _all(client)


def test_serve_runs_until_told() -> None:
    async def test() -> None:
        stop = asyncio.Event()
        config = ExchangeConfig(replace(SOURCE, count=1), start_clients=0)
        ready: list[int] = []

        def note(running: Exchange) -> None:
            ready.append(running.port)
            asyncio.get_running_loop().call_later(0.05, stop.set)

        await serve(config, stop=stop, ready=note)
        assert ready[0] > 0

    run(test)


def test_a_taken_port_is_one_clear_error() -> None:
    async def test() -> None:
        async with exchange(ExchangeConfig(SOURCE)) as running:
            with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{running.port}"):
                await Exchange(ExchangeConfig(SOURCE, port=running.port)).start()

    run(test)


def test_the_port_is_known_once_started() -> None:
    async def test() -> None:
        with pytest.raises(SetupError, match="expected start"):
            _ = Exchange(ExchangeConfig(SOURCE)).port

    run(test)


def test_it_speaks_tls(tmp_path: Path) -> None:
    _, both = self_signed(tmp_path)

    async def test() -> None:
        async with exchange(ExchangeConfig(SOURCE, certificate=both)) as running:
            assert running.websocket_url.startswith("wss://")
            assert running.rest_url.startswith("https://")
            with pytest.raises(httpx.ConnectError):
                await status(running)

    run(test)
