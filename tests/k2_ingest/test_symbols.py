"""What is known of a source's symbols, asked of the real exchange."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from k2_core.service_report import ServiceReport
from k2_core.types import Symbol
from k2_ingest import symbols
from k2_ingest.exchange.config import ExchangeConfig, Limits, SyntheticSource
from k2_ingest.exchange.server import Exchange
from k2_ingest.symbols import SymbolWatch
from k2_ingest.venues.binance_symbols import SymbolQuestions

AT = datetime(2026, 3, 1, tzinfo=UTC)
A, B, X = (Symbol(name) for name in ("AUSDT", "BUSDT", "XUSDT"))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def config(*names: str, port: int = 0, limits: Limits | None = None) -> ExchangeConfig:
    return ExchangeConfig(SyntheticSource(names, rate=1), port=port, limits=limits or Limits())


class Watched:
    """A watch with what it told and asked for."""

    def __init__(self, url: str, *names: Symbol, pause_s: float = 0.02) -> None:
        self.told: list[ServiceReport] = []
        self.asked_for: list[Sequence[Symbol]] = []
        questions = SymbolQuestions(url, ssl.create_default_context())
        self.watch = SymbolWatch(
            "binance", "spec.ingestion[0].symbols", names, questions, self.told.append, pause_s, lambda: AT
        )
        self.watch.on_known = self.asked_for.append

    @property
    def reasons(self) -> list[str]:
        return [report.reason for report in self.told]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SymbolWatch]:
        task = asyncio.create_task(self.watch.run())
        try:
            yield self.watch
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_an_unknown_symbol_is_left_out_said_and_told() -> None:
    async def test() -> None:
        async with Exchange(config(A, B)) as exchange:
            one = Watched(exchange.rest_url, A, X, B)
            assert (one.watch.unknown_count, one.watch.check()) == (None, None)
            await one.watch.first()
            assert (one.watch.wanted, one.watch.unknown_count) == ([A, B], 1)
            complaint = (
                f"source binance: the exchange at {exchange.rest_url} does not know XUSDT; all others flow. "
                "Correct spec.ingestion[0].symbols, or wait: it is asked again"
            )
            assert one.watch.check() == complaint
            assert one.watch.report() == ServiceReport("binance", AT, "UnknownSymbol", complaint)

    run(test)


def test_while_all_are_known_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Exchange(config(A, B)) as exchange:
            one = Watched(exchange.rest_url, A, B)
            await one.watch.first()
            async with one.running() as watch:
                await until(lambda: one.told)
                assert (watch.wanted, watch.unknown_count, watch.check()) == ([A, B], 0, None)
                assert one.told == [ServiceReport("binance", AT, "Known")]
                assert watch._pause_s() >= symbols.CALM_S / 2

    with caplog.at_level(logging.INFO, "k2_ingest.symbols"):
        run(test)
    assert caplog.records == []


def test_a_symbol_that_is_listed_later_comes_in_and_each_change_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbols, "LONGEST_PAUSE_S", 0.1)

    async def test() -> None:
        async with Exchange(config(A)) as exchange:
            one, port = Watched(exchange.rest_url, A, X), exchange.port
            await one.watch.first()
            async with one.running():
                await until(lambda: one.reasons.count("UnknownSymbol") >= 4)
                assert one.asked_for == []
                await exchange.stop()
                await until(lambda: one.watch._problem is not None)
                tries = one.watch._backoff._failures
                await until(lambda: one.watch._backoff._failures > tries + 2)
                assert one.watch.wanted == [A]
                assert one.watch.report().reason == "UnknownSymbol"
                async with Exchange(config(A, X, port=port)):
                    await until(lambda: "Known" in one.reasons)
                    assert (one.asked_for, one.watch.wanted) == ([[X]], [A, X])

    with caplog.at_level(logging.INFO, "k2_ingest.symbols"):
        run(test)
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition("http")[0] for text in said] == [
        "source binance: the exchange at ",
        "the exchange was not asked for its symbols: all flows on",
        "source binance: the exchange knows all symbols now",
    ]


def test_of_unknown_symbols_alone_nothing_is_wanted() -> None:
    async def test() -> None:
        async with Exchange(config(A)) as exchange:
            one = Watched(exchange.rest_url, X)
            await one.watch.first()
            assert one.watch.wanted == []
            assert "does not know XUSDT; nothing is received. Correct" in (one.watch.check() or "")

    run(test)


def test_an_exchange_that_does_not_say_keeps_nothing_from_flowing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "FIRST_LOOK_S", 0.2)

    left = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async def test() -> None:
        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            one = Watched(f"http://127.0.0.1:{port}", A, X)
            await one.watch.first()
            await left.wait()
        assert (one.watch.wanted, one.watch.unknown_count, one.watch.check()) == ([A, X], None, None)
        assert one.watch.report() == ServiceReport(
            "binance",
            AT,
            "NotAsked",
            "source binance: not known whether the exchange knows its symbols, all are subscribed to: "
            f"http://127.0.0.1:{port}: found no answer within 0.2 s, expected its symbols",
        )
        async with Exchange(config(A, port=port)), one.running():
            await until(lambda: one.watch.unknown)
            await until(lambda: "UnknownSymbol" in one.reasons)
        assert one.asked_for == []  # it has been subscribed to already, and stays so

    run(test)


def test_an_exchange_that_wants_to_be_left_alone_is() -> None:
    async def test() -> None:
        async with Exchange(config(A, limits=Limits(weight_per_minute=1, strikes=100))) as exchange:
            one = Watched(exchange.rest_url, A)
            await one.watch.first()
            assert one.watch._pause_s() > 0.05
            assert one.watch._pause_s() == one.watch._retry_after_s

    run(test)


def test_what_nobody_foresaw_is_said_and_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Exchange(config(A)) as exchange:
            watched = Watched(exchange.rest_url, A)
            await watched.watch.first()

            def once(_: ServiceReport) -> None:
                watched.watch._tell = watched.told.append
                raise ZeroDivisionError("of nobody's making")

            watched.watch._tell = once
            async with watched.running():
                await until(lambda: watched.told)
            assert watched.reasons[0] == "Known"

    with caplog.at_level(logging.ERROR, "k2_ingest.symbols"):
        run(test)
    assert [record.message for record in caplog.records] == ["the watch of symbols failed: it goes on"]
    assert "of nobody's making" in caplog.text
