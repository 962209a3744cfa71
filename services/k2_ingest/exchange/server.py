"""The running test exchange: a listening socket and the pump that moves messages from the source to the clients.

Owns start, pace, end and stop. Called by `k2_cli` (`k2 exchange`, `k2 up`), by tests and by benchmarks. Its memory is
bounded: at full speed the source waits for the slowest client, at a paced speed a client that falls behind is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Self

from k2_core.errors import SetupError
from k2_ingest.exchange.captures import Captures
from k2_ingest.exchange.config import CaptureSource, ExchangeConfig
from k2_ingest.exchange.history import History
from k2_ingest.exchange.hub import Hub
from k2_ingest.exchange.pacing import CaptureSchedule, Schedule, SyntheticSchedule
from k2_ingest.exchange.rest import RestApi
from k2_ingest.exchange.session import Context, Session
from k2_ingest.exchange.weights import Accounts

log = logging.getLogger(__name__)

BATCH_EVENTS = 512  # a few ms of work at full speed: pings, control messages and REST are answered in between
DETACH_TIMEOUT_S = 2.0  # for the closing handshakes on stop


class Exchange:
    """A test exchange, as an async context manager.

    Args:
        config: What to serve.
        utc_ns: UTC clock in nanoseconds.

    Attributes:
        finished: Set when the source has nothing more and all of it was handed to the clients' sockets.
    """

    def __init__(self, config: ExchangeConfig, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self.finished = asyncio.Event()
        self._config = config
        self._utc_ns = utc_ns
        self._captures: Captures | None = None
        self._history = History(config.history_trades)
        self._hub = Hub(self._history)
        self._dropped_slow = 0
        accounts = Accounts(config.limits)
        replays = isinstance(config.source, CaptureSource)
        rest = RestApi(self._history, accounts, self.status, lists_any=replays)
        self._context = Context(self._hub, rest, accounts, config.limits, utc_ns, self._closes_new)
        self._server: asyncio.Server | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The bound port."""
        if self._server is None:
            raise SetupError("exchange port: found a server that is not started, expected start() first")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def websocket_url(self) -> str:
        """Base of the WebSocket endpoints: append `/ws/...` or `/stream?streams=...`."""
        return f"{'wss' if self._config.certificate else 'ws'}://{self._config.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        """Base of the REST endpoints: append `/api/v3/...` or `/k2/status`."""
        return f"{'https' if self._config.certificate else 'http'}://{self._config.host}:{self.port}"

    def status(self) -> dict[str, object]:
        """The body of `/k2/status`: what was sent, by stream, and whether there is more."""
        return {
            "finished": self.finished.is_set(),
            "clients": len(self._hub.listeners),
            "dropped_slow": self._dropped_slow,
            "skipped": dict(self._captures.skipped) if self._captures else {},
            "streams": {stream: asdict(count) for stream, count in sorted(self._hub.counts.items())},
        }

    async def start(self) -> None:
        """Listen, and start the source.

        Raises:
            SetupError: The port is taken, a capture cannot be read or the certificate cannot be loaded.
        """
        schedule = self._schedule()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Session(self._context), self._config.host, self._config.port, ssl=self._ssl_context()
            )
        except OSError as error:
            where = f"{self._config.host}:{self._config.port}"
            raise SetupError(f"exchange: cannot listen on {where} ({error}), expected a free port") from error
        self._pump = asyncio.create_task(self._run(schedule), name="exchange-pump")
        log.info("exchange listens", extra={"url": self.websocket_url})

    def _schedule(self) -> Schedule:
        source = self._config.source
        if isinstance(source, CaptureSource):
            self._captures = Captures(source.files, pass_malformed=source.pass_malformed)
            return CaptureSchedule(self._captures, source.speed)
        for symbol in source.symbols:
            self._history.open(symbol)
        return SyntheticSchedule(source)

    def _ssl_context(self) -> ssl.SSLContext | None:
        if self._config.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._config.certificate)
        return context

    async def wait_failed(self) -> None:
        """Wait for the source to end.

        Raises:
            SetupError: It ended because a capture could not be read to its end.
        """
        if self._pump is not None:
            await asyncio.shield(self._pump)

    async def stop(self) -> None:
        """Announce the shutdown, close all connections and release the port."""
        if self._server is None:
            return
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._say_goodbye()
        self._server.close()
        await self._server.wait_closed()
        self._server = None

    async def _say_goodbye(self) -> None:
        sessions = [listener for listener in self._hub.listeners if isinstance(listener, Session)]
        for session in sessions:
            session.announce_shutdown()
        if sessions:
            await asyncio.sleep(self._config.shutdown_notice_s)
        for session in sessions:
            session.close(1001, "server shutdown")
        try:
            async with asyncio.timeout(DETACH_TIMEOUT_S):
                while self._hub.listeners:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            for listener in list(self._hub.listeners):
                listener.abort("no answer to the closing handshake")

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    # The pump

    def _closes_new(self) -> bool:
        return self._config.close_at_end and self.finished.is_set()

    async def _run(self, schedule: Schedule) -> None:
        await self._hub.wait_subscribers(self._config.start_clients)
        if self._config.full_speed:
            await self._run_at_clients_pace(schedule)
        else:
            await self._run_at_own_pace(schedule)
        self.finished.set()
        log.info("exchange finished its source", extra={"clients": len(self._hub.listeners)})
        if self._config.close_at_end:
            for listener in list(self._hub.listeners):
                listener.close(1000, "replay finished")

    async def _run_at_clients_pace(self, schedule: Schedule) -> None:
        while schedule.next_due_s is not None:
            await self._hub.wait_subscribers(1)
            await self._hub.wait_writable()
            self._hub.publish(schedule.take(0.0, self._utc_ns() // 1_000, BATCH_EVENTS))
            await asyncio.sleep(0)

    async def _run_at_own_pace(self, schedule: Schedule) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        while schedule.next_due_s is not None:
            self._hub.publish(schedule.take(loop.time() - start_s, self._utc_ns() // 1_000, BATCH_EVENTS))
            self._dropped_slow += self._hub.drop_slow(self._config.client_buffer_bytes)
            if schedule.next_due_s is not None:
                await asyncio.sleep(max(0.0, start_s + schedule.next_due_s - loop.time()))


async def serve(
    config: ExchangeConfig, *, stop: asyncio.Event, ready: Callable[[Exchange], object] = lambda _: None
) -> None:
    """Run an exchange until somebody sets `stop`.

    Args:
        config: What to serve.
        stop: Set it to end: connections are warned and closed.
        ready: Called once with the listening exchange.

    Raises:
        SetupError: It cannot start, or a capture cannot be read to its end.
    """
    async with Exchange(config) as exchange:
        ready(exchange)
        stopped = asyncio.create_task(stop.wait())
        failed = asyncio.create_task(exchange.wait_failed())
        try:
            await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
                await stopped
        finally:
            stopped.cancel()
            failed.cancel()
            await asyncio.gather(stopped, failed, return_exceptions=True)
