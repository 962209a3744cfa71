"""The rules that end a connection: pings without pongs, too many messages, old age.

Owns "General WSS information" and "WebSocket Limits" of the exchange's documentation for one connection. Used by
`session`. Pure: the time is an argument, in monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from k2_ingest.exchange.config import Limits


class Beat(Enum):
    """What is to be done about a connection now."""

    NOTHING = "nothing"
    PING = "ping"
    NO_PONG = "no pong within the time allowed"
    TOO_OLD = "connection lifetime reached"


class Heartbeat:
    """One connection's pings and age.

    Args:
        limits: The exchange's limits.
        now_s: When the connection was opened.
    """

    def __init__(self, limits: Limits, now_s: float) -> None:
        self._limits = limits
        self._ends_s = now_s + limits.connection_lifetime_s
        self._next_ping_s = now_s + limits.ping_interval_s
        self._unanswered: deque[tuple[bytes, float]] = deque()

    def next_s(self) -> float:
        """When `beat` has to be asked next."""
        pong_due_s = self._unanswered[0][1] + self._limits.pong_timeout_s if self._unanswered else self._ends_s
        return min(self._ends_s, self._next_ping_s, pong_due_s)

    def beat(self, now_s: float) -> Beat:
        """What is due at this moment."""
        if now_s >= self._ends_s:
            return Beat.TOO_OLD
        if self._unanswered and now_s >= self._unanswered[0][1] + self._limits.pong_timeout_s:
            return Beat.NO_PONG
        return Beat.PING if now_s >= self._next_ping_s else Beat.NOTHING

    def pinged(self, payload: bytes, now_s: float) -> None:
        """A ping with this payload was sent."""
        self._unanswered.append((payload, now_s))
        self._next_ping_s = now_s + self._limits.ping_interval_s

    def ponged(self, payload: bytes) -> None:
        """A pong came: it answers the ping with its payload and those before it (RFC 6455, 5.5.3), no others."""
        if any(payload == sent for sent, _ in self._unanswered):
            while self._unanswered.popleft()[0] != payload:
                pass


class MessageRate:
    """Incoming messages of one connection in the last second.

    Args:
        limit: Messages allowed in any one second.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times_s: deque[float] = deque()

    def allows(self, now_s: float) -> bool:
        """Count a message; False when it is one too many."""
        while self._times_s and self._times_s[0] <= now_s - 1.0:
            self._times_s.popleft()
        self._times_s.append(now_s)
        return len(self._times_s) <= self._limit
