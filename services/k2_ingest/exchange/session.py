"""One TCP connection to the test exchange: a WebSocket, or one HTTP request.

Owns the bytes of one connection: websockets' Sans-I/O protocol does the handshake, the frames and the closing; this
shell feeds it and applies the exchange's rules. Made by `server` for each accepted connection. Data frames arrive
ready-made from the hub and go straight to the transport, which the Sans-I/O form allows and websockets' server
does not. It never waits: all of it runs in callbacks of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from k2_ingest.exchange.config import Limits
from k2_ingest.exchange.heartbeat import Beat, Heartbeat, MessageRate
from k2_ingest.exchange.hub import Hub
from k2_ingest.exchange.messages import Variant, server_shutdown, text_frame
from k2_ingest.exchange.rest import HttpReply, RestApi
from k2_ingest.exchange.streams import PathError, Subscriptions
from k2_ingest.exchange.weights import Accounts

log = logging.getLogger(__name__)

WRITE_HIGH_WATER_BYTES = 256 * 1024  # enough to keep a socket busy between two turns of the pump
CLOSE_TIMEOUT_S = 5.0  # a client that does not answer a close frame is cut off
MAX_MESSAGE_BYTES = 128 * 1024  # a SUBSCRIBE of 1,024 streams is some 30 kB


@dataclass(frozen=True, slots=True)
class Context:
    """What all connections of one exchange share."""

    hub: Hub
    rest: RestApi
    accounts: Accounts
    limits: Limits
    utc_ns: Callable[[], int]
    finished: Callable[[], bool]  # nothing more will be sent: new connections are closed with 1000


class Session(asyncio.Protocol):
    """The server's side of one connection.

    Args:
        context: What it shares with the others.
    """

    def __init__(self, context: Context) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self._context = context
        self._protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES)
        self._loop = asyncio.get_running_loop()
        self._rate = MessageRate(context.limits.messages_per_s)
        self._timer: asyncio.TimerHandle | None = None
        self._heartbeat: Heartbeat | None = None
        self._subscriptions: Subscriptions | None = None
        self._transport: asyncio.Transport
        self._address = ""

    # What the hub sees

    @property
    def variant(self) -> Variant:
        """How this connection wants its messages."""
        return self._opened.variant

    @property
    def streams(self) -> Iterable[str]:
        """Streams it listens to."""
        return self._opened.names

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client has not taken yet, the kernel's buffers aside."""
        return self._transport.get_write_buffer_size()

    @property
    def _opened(self) -> Subscriptions:
        if self._subscriptions is None:
            raise InvalidState("the WebSocket handshake is not complete")
        return self._subscriptions

    def send_frames(self, frames: bytes) -> None:
        """Write ready frames; a connection that is closing gets none."""
        if self._protocol.state is OPEN:
            self._transport.write(frames)

    def announce_shutdown(self) -> None:
        """Say that the server is about to shut down."""
        notice = server_shutdown(self._context.utc_ns() // 1_000_000, self.variant)
        self.send_frames(text_frame(notice))

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the connection is cut if the client does not take part in it."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._flush()
            self._set_timer(CLOSE_TIMEOUT_S, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Cut the connection."""
        log.warning("exchange cut a connection", extra={"client": self._address, "reason": reason})
        self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over an accepted connection."""
        # A listening stream socket gives nothing else; uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""

    def data_received(self, data: bytes) -> None:
        """Feed the protocol and obey what comes out."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()

    def eof_received(self) -> None:
        """The client will send no more."""
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self.writable.set()
        self._context.hub.detach(self)

    def pause_writing(self) -> None:
        """The client takes its messages more slowly than they come."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable.set()

    # Opening

    def _open(self, request: Request) -> None:
        if "Upgrade" not in request.headers:
            headers = {name.lower(): value for name, value in request.headers.raw_items()}
            now_us = self._context.utc_ns() // 1_000
            reply = self._context.rest.answer(request.method, request.path, headers, self._address, now_us)
            self._protocol.send_response(_http_response(reply))
            return
        if not self._context.accounts.attempt(self._address, self._context.utc_ns() / 1e9):
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, "Too many connection attempts in 5 minutes.")
            return
        try:
            self._subscriptions = Subscriptions.from_target(request.path, self._context.limits.streams)
        except PathError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._protocol.send_response(self._protocol.accept(request))
        if self._protocol.state is OPEN:
            self._start()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._protocol.send_response(self._protocol.reject(status, f"{text}\n"))

    def _start(self) -> None:
        self._flush()
        self._heartbeat = Heartbeat(self._context.limits, self._loop.time())
        self._schedule_beat(self._heartbeat)
        self._context.hub.attach(self)
        if self._context.finished():
            self.close(1000, "replay finished")

    # Frames from the client

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE or self._protocol.state is not OPEN:
            return
        if not self._rate.allows(self._loop.time()):
            self.close(1008, "Too many requests")
        elif frame.opcode is Opcode.PONG and self._heartbeat is not None:
            self._heartbeat.ponged(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            before = (list(self._opened.names), self._opened.variant)
            self._protocol.send_text(self._opened.handle(bytes(frame.data)))
            # The acknowledgement precedes the first message of a new stream.
            self._flush()
            if before != (list(self._opened.names), self._opened.variant):
                self._context.hub.reindex()

    # Time

    def _set_timer(self, delay_s: float, action: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, action)

    def _schedule_beat(self, heartbeat: Heartbeat) -> None:
        self._set_timer(max(0.0, heartbeat.next_s() - self._loop.time()), lambda: self._beat(heartbeat))

    def _beat(self, heartbeat: Heartbeat) -> None:
        beat = heartbeat.beat(self._loop.time())
        if beat is Beat.NO_PONG:
            # A client that reads nothing would not see a close frame either.
            self.abort(beat.value)
            return
        if beat is Beat.TOO_OLD:
            self.close(1001, beat.value)
            return
        if beat is Beat.PING:
            payload = str(self._context.utc_ns() // 1_000_000).encode()
            self._protocol.send_ping(payload)
            self._flush()
            heartbeat.pinged(payload, self._loop.time())
        self._schedule_beat(heartbeat)

    # Bytes out

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


def _http_response(reply: HttpReply) -> Response:
    body = reply.encoded()
    headers = Headers(reply.headers)
    headers["Content-Type"] = "application/json;charset=UTF-8"
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Response(reply.status, HTTPStatus(reply.status).phrase, headers, body)
