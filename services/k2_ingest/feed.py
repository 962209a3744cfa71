"""The connection to a venue: connect, read, pause, notice silence, come back.

Owns the socket. Called by `service`, which gives a handler that takes messages in batches as they come off the socket.
Nothing is buffered here: `pause` stops reading and lets TCP hold the venue back. It never parses a message and never
drops one. The client library is picows, see docs/decisions/0010-websocket-libraries.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from k2_core.breaker import CircuitBreaker
from k2_core.errors import RetryableError, VenueUnavailableError

log = logging.getLogger(__name__)

BATCH_MESSAGES: Final = 512  # bounds one turn of the event loop to a few ms, so that pings are answered in time
NORMAL_CLOSE: Final = 1000
CLOSE_TIMEOUT_S: Final = 2.0  # on stop, for what is left to be written

Handler = Callable[[Sequence[bytes], int], None]
"""Takes messages in order, and when they were received: UTC nanoseconds."""


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """How to reach a venue and when to give up on a connection.

    Args:
        url: The combined stream with everything wanted in its query; None: nothing is wanted yet, see `Feed.listen_to`.
        ca_file: PEM file of a CA that the system does not know; None trusts the system's.
        stale_after_s: A connection that has been silent for longer is replaced. The exchange pings every 20 s.
        connect_timeout_s: For the TCP connection and the handshakes.
        first_backoff_s: Wait after the first failure; doubles with each one that follows.
        longest_backoff_s: Bound of that.
        max_message_bytes: A longer message ends the connection; a trade has some 200 bytes. Any message must fit into
            Kafka as a dead letter, where a record's limit is 1,000,000 bytes.
    """

    url: str | None
    ca_file: Path | None = None
    stale_after_s: float = 45.0
    connect_timeout_s: float = 10.0
    first_backoff_s: float = 1.0
    longest_backoff_s: float = 60.0
    max_message_bytes: int = 512 * 1024


class Backoff:
    """Exponential waits with full jitter above one half, so that many clients do not return in step.

    Args:
        first_s: The first wait.
        longest_s: No wait is longer.
        jitter: A number in [0, 1), drawn for each wait.
    """

    def __init__(self, first_s: float, longest_s: float, jitter: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._failures = 0

    def next_s(self) -> float:
        """How long to wait after one more failure."""
        whole = min(self._first_s * float(1 << min(self._failures, 32)), self._longest_s)
        self._failures += 1
        return whole * (0.5 + 0.5 * self._jitter())

    def reset(self) -> None:
        """The connection works: the next failure counts as the first."""
        self._failures = 0


class _Listener(WSListener):
    """Collects the messages of one read of the socket and hands them on together."""

    def __init__(self, handler: Handler, clock_ns: Callable[[], int]) -> None:
        self.last_frame_s = time.monotonic()
        self.messages = 0
        self.close_code: int | None = None
        self.failure: Exception | None = None
        self._handler = handler
        self._clock_ns = clock_ns
        self._batch: list[bytes] = []
        self._parts: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.TEXT and frame.fin:
            self._batch.append(frame.get_payload_as_bytes())
        else:
            self._other(transport, frame)
        if frame.last_in_buffer or len(self._batch) >= BATCH_MESSAGES:
            self.hand_on()

    def _other(self, transport: WSTransport, frame: WSFrame) -> None:
        """Fragments and control frames."""
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                self._batch.append(b"".join(self._parts))
                self._parts.clear()
        elif frame.msg_type is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type is WSMsgType.CLOSE:
            self.close_code = int(frame.get_close_code().value)
            self.hand_on()
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def hand_on(self) -> None:
        """Give the handler what has come."""
        self.last_frame_s = time.monotonic()
        if self._batch:
            batch, self._batch = self._batch, []
            self.messages += len(batch)
            self._handler(batch, self._clock_ns())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        self.hand_on()


class Feed:
    """One connection, kept up.

    Args:
        config: Where to and how.
        handler: Takes the messages.
        breaker: Stops attempts for a while after repeated failures.
        backoff: Waits between attempts; None makes one from the configuration.
        clock_ns: UTC nanoseconds, for receive times.

    Attributes:
        connected: Whether a connection is open.
        connections: Connections that were opened.
    """

    def __init__(
        self,
        config: FeedConfig,
        handler: Handler,
        breaker: CircuitBreaker,
        backoff: Backoff | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.connected = False
        self.connections = 0
        self.paused = False
        self._config = config
        self._url = config.url or ""
        self._wanted = asyncio.Event()
        if config.url is not None:
            self._wanted.set()
        self._requests: list[bytes] = []
        self._handler = handler
        self._breaker = breaker
        self._backoff = backoff or Backoff(config.first_backoff_s, config.longest_backoff_s)
        self._clock_ns = clock_ns
        self._listener: _Listener | None = None
        self._transport: WSTransport | None = None
        self._failure: Exception | None = None
        self._stopping = asyncio.Event()

    async def run(self, finished: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Stay connected until stopped.

        Args:
            finished: Asked after the venue has closed a connection normally (1000); True ends the run. None: it never
                ends by itself, as a real exchange never finishes.

        Raises:
            K2Error: The handler failed.
        """
        await self._until_wanted()
        while not self._stopping.is_set():
            try:
                await self._connect_once()
            except RetryableError as error:
                await self._wait(error)
                continue
            code = self._listener.close_code if self._listener else None
            if code == NORMAL_CLOSE and finished is not None and await finished():
                return
            if not self._stopping.is_set():
                await self._wait(VenueUnavailableError(f"connection closed with code {code}, expected it to stay open"))
        if self._failure is not None:
            raise self._failure

    async def _until_wanted(self) -> None:
        """Wait until there is something to listen to, or the run is to end."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._wanted, self._stopping)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    def listen_to(self, url: str, request: bytes) -> None:
        """Listen to more from now on, on the connection that is open, too: it is not made anew, so nothing is missed.

        Args:
            url: Of connections to come, with everything wanted in its query.
            request: The message that asks for what is new on an open one.
        """
        self._url = url
        self._wanted.set()
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send(WSMsgType.TEXT, request)
        else:
            self._requests.append(request)  # the handshake that may be under way has the URL of before

    async def _connect_once(self) -> None:
        """One connection from its opening to its end."""
        with self._breaker.guard():
            transport, listener = await self._open()
        self.connected = True
        self.connections += 1
        log.info("connected to the venue", extra={"url": self._shown_url, "connection": self.connections})
        if self.paused:
            self._set_reading(False)
        try:
            await self._watch(transport, listener)
        finally:
            self.connected = False
            self._transport = None
        if listener.messages:
            self._backoff.reset()

    async def _open(self) -> tuple[WSTransport, _Listener]:
        listener = _Listener(self._guarded, self._clock_ns)
        limit_s = self._config.connect_timeout_s
        self._requests.clear()
        try:
            # picows bounds the WebSocket handshake by itself and cleans up after it; this bounds the rest (TCP, TLS).
            async with asyncio.timeout(2 * limit_s):
                transport, _ = await ws_connect(
                    lambda: listener,
                    self._url,
                    ssl_context=self._ssl_context(),
                    websocket_handshake_timeout=limit_s,
                    max_frame_size=self._config.max_message_bytes,
                    enable_auto_pong=False,  # a ping is a sign of life, and picows would keep it to itself
                    use_aiofastnet=False,  # the event loop's own TLS, which closes what fails to shake hands
                )
        except (OSError, WSError, TimeoutError) as error:
            found = f"found {type(error).__name__}: {error}"
            raise VenueUnavailableError(f"{self._shown_url}: {found}, expected a WebSocket") from error
        self._transport, self._listener = transport, listener
        for request in self._requests:
            transport.send(WSMsgType.TEXT, request)
        return transport, listener

    @property
    def _shown_url(self) -> str:
        """Without the list of streams, which may be long."""
        return self._url.partition("?")[0]

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not self._url.startswith("wss:"):
            return None
        return ssl.create_default_context(cafile=self._config.ca_file)

    def _guarded(self, messages: Sequence[bytes], received_ns: int) -> None:
        """Call the handler; its failure ends the run instead of vanishing in a callback."""
        if self._failure is not None:
            return
        try:
            self._handler(messages, received_ns)
        except Exception as error:  # noqa: BLE001 - a callback has no caller: run() raises it again
            self.fail(error)

    async def _watch(self, transport: WSTransport, listener: _Listener) -> None:
        """Wait for the end of a connection; end it when it has fallen silent or when told to stop."""
        closed = asyncio.ensure_future(transport.wait_disconnected())
        stopping = asyncio.ensure_future(self._stopping.wait())
        tick_s = self._config.stale_after_s / 10
        try:
            while not closed.done() and not stopping.done():
                await asyncio.wait((closed, stopping), timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
                silent_s = time.monotonic() - listener.last_frame_s
                if silent_s > self._config.stale_after_s and not self.paused:
                    log.warning("the venue is silent: connecting anew", extra={"silent_s": round(silent_s, 1)})
                    transport.disconnect(graceful=False)
            if not closed.done():
                transport.send_close(WSCloseCode.OK)
                transport.disconnect()
                await asyncio.wait((closed,), timeout=CLOSE_TIMEOUT_S)
        finally:
            transport.disconnect(graceful=False)
            stopping.cancel()
            await asyncio.wait((closed, stopping))

    async def _wait(self, error: RetryableError) -> None:
        delay_s = self._backoff.next_s()
        log.warning("no connection to the venue", extra={"reason": str(error), "retry_in_s": round(delay_s, 2)})
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def stop(self) -> None:
        """End the run; the connection is closed."""
        self._stopping.set()

    def fail(self, error: Exception) -> None:
        """End the run with an error, which `run` raises."""
        self._failure = self._failure or error
        self.stop()

    def pause(self) -> None:
        """Stop reading from the socket; the venue is held back by TCP."""
        self.paused = True
        self._set_reading(False)

    def resume(self) -> None:
        """Read again."""
        self.paused = False
        if self._listener is not None:
            self._listener.last_frame_s = time.monotonic()
        self._set_reading(True)

    def _set_reading(self, reading: bool) -> None:
        if self._transport is None or self._transport.is_disconnected:
            return
        underlying = self._transport.underlying_transport
        if reading:
            underlying.resume_reading()
        else:
            underlying.pause_reading()
