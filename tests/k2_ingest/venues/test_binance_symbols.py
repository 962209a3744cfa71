"""Questions for symbols, to the real exchange and to servers that are none."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from k2_core.errors import VenueUnavailableError
from k2_core.types import Symbol
from k2_ingest.exchange.config import CaptureSource, ExchangeConfig, Limits, SyntheticSource
from k2_ingest.exchange.server import Exchange
from k2_ingest.venues import binance_symbols
from k2_ingest.venues.binance_symbols import NotToldError, SymbolQuestions
from support.tls import self_signed

NAMES = tuple(f"A{number}USDT" for number in range(300))
LISTED = SyntheticSource(NAMES, rate=1)
A, B, X, Y = (Symbol(name) for name in ("A1USDT", "A2USDT", "XUSDT", "YUSDT"))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def symbols(*more: str) -> list[Symbol]:
    return [Symbol(name) for name in (*NAMES[:150], *more, *NAMES[150:])]


async def asked(
    exchange: Exchange, names: list[Symbol], suspects: tuple[Symbol, ...] = (), ca_file: Path | None = None
) -> frozenset[Symbol]:
    questions = SymbolQuestions(exchange.rest_url, ssl.create_default_context(cafile=ca_file))
    return await questions.unknown(names, suspects)


@pytest.mark.parametrize("more", [(), (X,), (X, Y)], ids=len)
def test_exactly_what_the_exchange_does_not_know(more: tuple[Symbol, ...]) -> None:
    async def test() -> None:
        async with Exchange(ExchangeConfig(LISTED)) as exchange:
            assert await asked(exchange, symbols(*more)) == set(more)
            assert await asked(exchange, list(more)) == set(more)

    run(test)


def test_what_was_unknown_costs_the_others_no_question() -> None:
    async def test() -> None:
        limits = Limits(weight_per_minute=5 * 20)
        async with Exchange(ExchangeConfig(LISTED, limits=limits)) as exchange:
            assert await asked(exchange, symbols(X, Y), (X, Y)) == {X, Y}  # three lists of 100, and one question each
            with pytest.raises(NotToldError, match=r"found HTTP 429 .*-1003") as refused:
                await asked(exchange, [A])
            assert 0 < (refused.value.retry_after_s or 0) <= 60

    run(test)


def test_a_look_has_an_end_however_many_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_symbols, "MOST_QUESTIONS", 16)

    async def test() -> None:
        async with Exchange(ExchangeConfig(LISTED, limits=Limits(weight_per_minute=16 * 20))) as exchange:
            names = [Symbol(f"X{number}") for number in range(8)]
            assert await asked(exchange, names) == set(names)  # 15 questions: 8, and halves of it

        async with Exchange(ExchangeConfig(LISTED, limits=Limits(weight_per_minute=16 * 20))) as exchange:
            many = [Symbol(f"X{number}") for number in range(1_024)]
            found = await asked(exchange, many)
            assert found < set(many)

    run(test)


def test_a_replayed_capture_may_hold_any_symbol(tmp_path: Path) -> None:
    (tmp_path / "capture").write_bytes(b"")

    async def test() -> None:
        async with Exchange(ExchangeConfig(CaptureSource((tmp_path / "capture",)))) as exchange:
            assert await asked(exchange, [A, X]) == set()

    run(test)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "found b'<html>'", id="a proxy's page"),
        pytest.param(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"symbols": 7}', "symbols", id="another API"),
        pytest.param(b"HTTP/1.1 451 Unavailable\r\nContent-Length: 2\r\n\r\nno", "HTTP 451 b'no'", id="a region"),
        pytest.param(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP 403", id="a firewall"),
        pytest.param(
            b"HTTP/1.1 503 Away\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", "HTTP 503", id="a fault of its own"
        ),
        pytest.param(b'HTTP/1.1 400 Bad\r\nContent-Length: 14\r\n\r\n{"code":-1100}', "HTTP 400", id="another refusal"),
        pytest.param(b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad", "HTTP 400", id="a refusal in other words"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "HTTP 302", id="a way on"),
        pytest.param(b"", "RemoteProtocolError", id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, "DecodingError: more than 99", id="without an end"),
    ],
)
def test_all_else_is_no_answer(reply: bytes, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_symbols, "LONGEST_ANSWER_BYTES", 99)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(VenueUnavailableError, match=url) as refused:
                await SymbolQuestions(url, ssl.create_default_context()).unknown([A])
            assert found in str(refused.value)
            assert getattr(refused.value, "retry_after_s", None) is None

    run(test)


def test_the_certificate_is_checked(tmp_path: Path) -> None:
    certificate, both = self_signed(tmp_path)

    async def test() -> None:
        async with Exchange(ExchangeConfig(LISTED, certificate=both)) as exchange:
            assert await asked(exchange, [A, X], ca_file=certificate) == {X}
            with pytest.raises(VenueUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await asked(exchange, [A, X])

    run(test)
