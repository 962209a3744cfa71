"""The connection to a venue, against the real exchange and websockets' own server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from k2_core.breaker import BreakerState, CircuitBreaker
from k2_core.errors import KafkaUnavailableError
from k2_core.types import Symbol
from k2_ingest.exchange.config import ExchangeConfig, Limits, SyntheticSource
from k2_ingest.exchange.server import Exchange
from k2_ingest.feed import Backoff, Feed, FeedConfig
from k2_ingest.venues.binance import subscription
from support.tls import self_signed

STREAMS = "/stream?streams=btcusdt@trade"
ENDLESS = SyntheticSource(("BTCUSDT",), rate=500)
NEVER_S = 60.0
"""Longer than a machine stands still: none of these connections is silent."""


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


class Collected:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.times: list[int] = []

    def __call__(self, messages: Sequence[bytes], received_ns: int) -> None:
        self.messages += messages
        self.times.append(received_ns)


def feed(
    url: str,
    handler: Callable[[Sequence[bytes], int], None],
    ca_file: Path | None = None,
    stale_after_s: float = NEVER_S,
) -> Feed:
    config = FeedConfig(url, ca_file, stale_after_s, first_backoff_s=0.01, longest_backoff_s=0.05)
    return Feed(config, handler, CircuitBreaker("venue", failure_threshold=3, cooldown_s=0.1), clock_ns=lambda: 42)


@asynccontextmanager
async def running(one: Feed) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(one.run())
    try:
        yield task
    finally:
        one.stop()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def always() -> bool:
    return True


def test_messages_come_in_order_with_their_time() -> None:
    async def test() -> None:
        got = Collected()
        async with Exchange(ExchangeConfig(SyntheticSource(("BTCUSDT",), rate=0, count=5_000))) as exchange:
            one = feed(exchange.websocket_url + STREAMS, got)
            await one.run(always)
            assert not one.connected
        assert len(got.messages) == 5_000
        assert got.messages == sorted(got.messages, key=lambda message: message.partition(b'"t":')[2][:12])
        assert set(got.times) == {42}

    run(test)


def test_a_finished_venue_that_goes_on_is_connected_anew() -> None:
    async def test() -> None:
        async def never() -> bool:
            return False

        async with Exchange(ExchangeConfig(SyntheticSource(("BTCUSDT",), rate=0, count=5))) as exchange:
            one = feed(exchange.websocket_url + STREAMS, Collected())
            task = asyncio.create_task(one.run(never))
            await until(lambda: one.connections >= 3)
            one.stop()
            await task

    run(test)


def test_it_comes_back_after_the_venue_drops_it() -> None:
    async def test() -> None:
        limits = Limits(connection_lifetime_s=0.2)
        async with Exchange(ExchangeConfig(ENDLESS, limits=limits)) as exchange:
            one = feed(exchange.websocket_url + STREAMS, Collected())
            async with running(one):
                await until(lambda: one.connections >= 3)

    run(test)


def test_a_silent_connection_is_replaced() -> None:
    async def test() -> None:
        async with Exchange(ExchangeConfig(ENDLESS)) as exchange:
            one = feed(exchange.websocket_url + "/ws", Collected(), stale_after_s=0.3)
            async with running(one):
                await until(lambda: one.connections >= 2)

    run(test)


def test_pings_are_answered_and_keep_a_quiet_connection() -> None:
    """So many on one connection that it would have been replaced twice; where this machine stands still one may be."""
    answered = 0

    async def ping(connection: ServerConnection) -> None:
        nonlocal answered
        with suppress(ConnectionClosed):
            for number in range(20):
                await (await connection.ping())
                answered = max(answered, number + 1)
                await asyncio.sleep(0.1)
        await connection.wait_closed()

    async def test() -> None:
        async with serve(ping, "127.0.0.1", 0, ping_interval=None) as server:
            one = feed(f"ws://127.0.0.1:{_port(server)}/", Collected(), stale_after_s=0.9)
            async with running(one):
                await until(lambda: answered == 20)

    run(test)


def test_a_paused_connection_is_not_silent() -> None:
    async def test() -> None:
        async with Exchange(ExchangeConfig(ENDLESS)) as exchange:
            one = feed(exchange.websocket_url + STREAMS, Collected(), stale_after_s=0.3)
            one.pause()
            async with running(one):
                await until(lambda: one.connected)
                await asyncio.sleep(0.8)  # a stall makes this longer, and a paused connection no more silent
                assert (one.connected, one.connections) == (True, 1)

    run(test)


def test_pause_holds_the_venue_back_and_loses_nothing() -> None:
    async def test() -> None:
        got = Collected()
        async with Exchange(ExchangeConfig(SyntheticSource(("BTCUSDT",), rate=0, count=200_000))) as exchange:
            one = feed(exchange.websocket_url + STREAMS, got)
            one.pause()
            one.resume()
            one.pause()
            task = asyncio.create_task(one.run(always))
            await until(lambda: one.connected)
            held = len(got.messages)
            await asyncio.sleep(0.5)  # what comes all the same comes in a moment
            assert len(got.messages) == held < 200_000
            assert not exchange.finished.is_set()
            one.resume()
            await task
        assert len(got.messages) == 200_000
        assert one.connections == 1

    run(test)


def test_a_failing_handler_ends_the_run_at_once() -> None:
    async def test() -> None:
        calls: list[int] = []

        def fail(_messages: Sequence[bytes], received_ns: int) -> None:
            calls.append(received_ns)
            raise ValueError("handler")

        source = SyntheticSource(("BTCUSDT",), rate=0, count=20_000)
        async with Exchange(ExchangeConfig(source)) as exchange:
            with pytest.raises(ValueError, match="handler"):
                await feed(exchange.websocket_url + STREAMS, fail).run()
        assert len(calls) == 1

    run(test)


def test_fragments_are_put_together() -> None:
    async def talk(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            for part in ("a", "b", "c"):
                yield part

        await connection.send("whole")
        await connection.send(parts())
        await connection.send(b"binary")

    async def test() -> None:
        got = Collected()
        async with serve(talk, "127.0.0.1", 0) as server:
            await feed(f"ws://127.0.0.1:{_port(server)}/", got).run(always)
        assert got.messages == [b"whole", b"abc", b"binary"]

    run(test)


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


@contextmanager
def refusing() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else is given meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_refused_connections_open_the_breaker_and_back_off() -> None:
    async def test() -> None:
        breaker = CircuitBreaker("venue", failure_threshold=2, cooldown_s=60)
        with refusing() as port:
            config = FeedConfig(f"ws://127.0.0.1:{port}/", first_backoff_s=0.01, longest_backoff_s=0.02)
            one = Feed(config, Collected(), breaker)
            async with running(one):
                await until(lambda: breaker.state is BreakerState.OPEN)
                await asyncio.sleep(0.1)
        assert one.connections == 0

    run(test)


def test_a_venue_that_never_shakes_hands_is_given_up() -> None:
    async def test() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        async with server:
            breaker = CircuitBreaker("venue", failure_threshold=1)
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            one = Feed(FeedConfig(url, connect_timeout_s=0.1), Collected(), breaker)
            async with running(one):
                await until(lambda: breaker.state is BreakerState.OPEN)

    run(test)


def test_tls_is_verified(tmp_path: Path) -> None:
    certificate, both = self_signed(tmp_path)

    async def test() -> None:
        source = SyntheticSource(("BTCUSDT",), rate=0, count=100)
        async with Exchange(ExchangeConfig(source, certificate=both)) as exchange:
            breaker = CircuitBreaker("venue", failure_threshold=1)
            stranger = Feed(FeedConfig(exchange.websocket_url + STREAMS), Collected(), breaker)
            async with running(stranger):
                await until(lambda: breaker.state is BreakerState.OPEN)
                assert stranger.connections == 0
            got = Collected()
            await feed(exchange.websocket_url + STREAMS, got, certificate).run(always)
            assert len(got.messages) == 100

    run(test)


def test_waits_double_up_to_their_bound() -> None:
    backoff = Backoff(1.0, 10.0, jitter=lambda: 1.0)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next_s() == 1.0
    assert Backoff(1.0, 10.0, jitter=lambda: 0.0).next_s() == 0.5


def test_a_fault_elsewhere_ends_the_run_whatever_it_is_doing() -> None:
    async def test() -> None:
        with refusing() as port:
            one = feed(f"ws://127.0.0.1:{port}/", Collected())
            task = asyncio.create_task(one.run())
            await asyncio.sleep(0.05)
            one.fail(KafkaUnavailableError("gone"))
            with pytest.raises(KafkaUnavailableError, match="gone"):
                await task

    run(test)


BOTH = "/stream?streams=btcusdt@trade/ethusdt@trade"


def symbols_of(got: Collected) -> set[bytes]:
    return {message.partition(b'"s":"')[2][:7] for message in got.messages if b'"s":"' in message}


def test_more_is_listened_to_on_the_connection_that_is_open() -> None:
    async def test() -> None:
        got = Collected()
        async with Exchange(ExchangeConfig(SyntheticSource(("BTCUSDT", "ETHUSDT"), rate=500))) as exchange:
            one = feed(exchange.websocket_url + STREAMS, got)
            async with running(one):
                await until(lambda: symbols_of(got))
                assert symbols_of(got) == {b"BTCUSDT"}
                one.listen_to(exchange.websocket_url + BOTH, subscription([Symbol("ETHUSDT")], 1))
                await until(lambda: symbols_of(got) == {b"BTCUSDT", b"ETHUSDT"})
                assert one.connections == 1

    run(test)


def test_what_comes_while_hands_are_shaken_is_listened_to_as_well() -> None:
    async def test() -> None:
        shaking, asked = asyncio.Event(), list[str | bytes]()

        async def wait(_connection: ServerConnection, _request: Request) -> None:
            shaking.set()
            await asyncio.sleep(0.1)

        async def talk(connection: ServerConnection) -> None:
            asked.append(await connection.recv())

        async with serve(talk, "127.0.0.1", 0, process_request=wait) as server:
            url = f"ws://127.0.0.1:{_port(server)}"
            one = feed(url + STREAMS, Collected())
            async with running(one):
                await shaking.wait()
                one.listen_to(url + BOTH, b"more")
                await until(lambda: asked)
                assert asked == ["more"]

    run(test)


def test_it_waits_until_there_is_something_to_listen_to() -> None:
    async def test() -> None:
        paths, asked = list[str](), list[str | bytes]()

        async def talk(connection: ServerConnection) -> None:
            paths.append(connection.request.path if connection.request else "")
            asked.extend([message async for message in connection])

        breaker = CircuitBreaker("venue", failure_threshold=1)
        async with serve(talk, "127.0.0.1", 0) as server:
            one = Feed(FeedConfig(None), Collected(), breaker)
            async with running(one):
                await asyncio.sleep(0.1)
                assert (breaker.state, paths) == (BreakerState.CLOSED, [])
                one.listen_to(f"ws://127.0.0.1:{_port(server)}{STREAMS}", b"what the URL says already")
                await until(lambda: paths)
        assert (paths, asked) == ([STREAMS], [])

    run(test)


def test_it_ends_when_it_is_told_to_while_there_is_nothing_to_listen_to() -> None:
    async def test() -> None:
        one = Feed(FeedConfig(None), Collected(), CircuitBreaker("venue"))
        task = asyncio.create_task(one.run())
        await asyncio.sleep(0.02)
        one.fail(KafkaUnavailableError("gone"))
        with pytest.raises(KafkaUnavailableError, match="gone"):
            await task

    run(test)
