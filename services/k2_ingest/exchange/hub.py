"""Who listens to what, and the sending of events to them.

Owns the index from stream to connections, the counts for `/k2/status` and the trades' history. Called by the pump in
`server` (publish) and by `session` (attach, detach, subscriptions changed). Each message is rendered and framed once
for each variant that somebody wants, and each connection gets one write a batch: that is what makes full speed fast.
It never buffers: what a connection does not take is the transport's, within the bounds that `server` keeps.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from k2_ingest.exchange.history import History
from k2_ingest.exchange.messages import Event, Trade, Variant, envelope, text_frame


class Listener(Protocol):
    """A connection as the hub sees it."""

    writable: asyncio.Event

    @property
    def variant(self) -> Variant:
        """How it wants its messages."""

    @property
    def streams(self) -> Iterable[str]:
        """Streams it listens to."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes it has not taken yet."""

    def send_frames(self, frames: bytes) -> None:
        """Write ready frames."""

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""

    def abort(self, reason: str) -> None:
        """Cut the connection without a handshake."""


@dataclass(slots=True)
class StreamCount:
    """What was sent of one stream.

    `emitted` messages left the source, `delivered` counts them once for each connection; ids are None without trades.
    """

    emitted: int = 0
    delivered: int = 0
    first_id: int | None = None
    last_id: int | None = None

    def add(self, trade: Trade | None, listeners: int) -> None:
        """Count one message."""
        self.emitted += 1
        self.delivered += listeners
        if trade is not None:
            self.last_id = trade.trade_id
            if self.first_id is None:
                self.first_id = trade.trade_id


class Hub:
    """The connections and what they are sent.

    Args:
        history: Where sent trades are remembered.
    """

    def __init__(self, history: History) -> None:
        self.counts: dict[str, StreamCount] = defaultdict(StreamCount)
        self.listeners: dict[Listener, None] = {}
        self._history = history
        self._index: dict[str, list[tuple[Variant, list[Listener]]]] = {}
        self._changed = asyncio.Event()

    def attach(self, listener: Listener) -> None:
        """A connection was opened."""
        self.listeners[listener] = None
        self.reindex()

    def detach(self, listener: Listener) -> None:
        """A connection is gone."""
        if self.listeners.pop(listener, 0) is None:
            self.reindex()

    def reindex(self) -> None:
        """Connections or their subscriptions have changed."""
        grouped: dict[str, dict[Variant, list[Listener]]] = defaultdict(lambda: defaultdict(list))
        for listener in self.listeners:
            for stream in listener.streams:
                grouped[stream][listener.variant].append(listener)
        self._index = {stream: list(groups.items()) for stream, groups in grouped.items()}
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def subscribers(self) -> int:
        """Connections that listen to at least one stream."""
        return sum(any(True for _ in listener.streams) for listener in self.listeners)

    async def wait_subscribers(self, least: int) -> None:
        """Wait until at least this many connections listen to something."""
        while self.subscribers < least:
            await self._changed.wait()

    async def wait_writable(self) -> None:
        """Wait until every connection takes more: at full speed the slowest client sets the pace."""
        for listener in list(self.listeners):
            await listener.writable.wait()

    def publish(self, events: Sequence[Event]) -> None:
        """Send events to those who listen to them, and remember the trades."""
        outboxes: dict[Listener, list[bytes]] = defaultdict(list)
        for event in events:
            stream, trade = event.stream, event.trade
            delivered = 0
            for variant, listeners in self._index.get(stream, ()) if stream is not None else self._everybody():
                frame = text_frame(envelope(stream, event.payload(variant.unit), variant))
                for listener in listeners:
                    outboxes[listener].append(frame)
                delivered += len(listeners)
            self.counts[stream or "malformed"].add(trade, delivered)
            if trade is not None:
                self._history.open(trade.symbol).append(trade)
        for listener, frames in outboxes.items():
            listener.send_frames(b"".join(frames))

    def _everybody(self) -> list[tuple[Variant, list[Listener]]]:
        return [(listener.variant, [listener]) for listener in self.listeners]

    def drop_slow(self, most_bytes: int) -> int:
        """Cut the connections that hold back more than this; returns how many."""
        slow = [listener for listener in self.listeners if listener.unsent_bytes > most_bytes]
        for listener in slow:
            listener.abort(f"too slow: {listener.unsent_bytes} bytes unsent, at most {most_bytes} expected")
        return len(slow)
