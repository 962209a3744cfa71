"""Where a pipeline's trades come from: the exchange itself, a capture, or K2's own exchange with synthetic ones.

The choice is pure (`choose`); `probe` is the look at the network, a real WebSocket handshake and a first message.
Called by `k2 up`, by `k2_cli.looking`. Trades of different kinds are never mixed in one folder: afterwards nobody could
tell them apart.
"""

from __future__ import annotations

import enum
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import InvalidProxyStatus, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from k2_core.errors import SetupError

PROBE_TIMEOUT_S: Final = 5.0
_REFUSED_HERE: Final = frozenset({403, 451})
"""451: "Unavailable For Legal Reasons", what Binance answers in restricted countries; its firewall says 403."""
_TOO_MANY: Final = frozenset({418, 429})


class Kind(enum.StrEnum):
    """Kinds of trades."""

    LIVE = "live"
    CAPTURE = "capture"
    SYNTHETIC = "synthetic"
    FILES = "files"
    """Of a pipeline without an exchange: its rows say which file they are from, so they mix with any."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A source and why it is this one, for the user."""

    kind: Kind
    reason: str


FILES_ALONE: Final = Choice(Kind.FILES, "the pipeline names no exchange; each is read once")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asked for: captures, synthetic trades, or neither, which means live ones if there are any."""

    captures: bool = False
    synthetic: bool = False


def decided(asked: Asked, held: str | None, folder: str) -> Choice | None:
    """Return the choice if no look at the network is needed, else None.

    Args:
        asked: By the user.
        held: The kind of trades that the folder holds already, or None.
        folder: Its name, for messages.

    Raises:
        SetupError: The wanted trades would mix with others.
    """
    if asked.captures:
        _refuse_mixing(Kind.CAPTURE, held, folder)
        return Choice(Kind.CAPTURE, "--capture names files to replay")
    if asked.synthetic:
        _refuse_mixing(Kind.SYNTHETIC, held, folder)
        return Choice(Kind.SYNTHETIC, "--synthetic asks for them")
    if held == Kind.SYNTHETIC:
        return Choice(Kind.SYNTHETIC, f"{folder} holds synthetic trades, which live ones must not join")
    return None


def choose(problem: str | None, held: str | None, folder: str) -> Choice:
    """Return the choice after a look at the network.

    Args:
        problem: Why the exchange did not answer, or None if it did.
        held: As for `decided`; never synthetic.
        folder: As for `decided`.

    Raises:
        SetupError: Neither live nor synthetic trades can be had without mixing.
    """
    if problem is None:
        return Choice(Kind.LIVE, "it answers")
    if held == Kind.LIVE:
        # Made-up trades in a folder of real ones would be silent damage; a gap is visible and can be repaired.
        return Choice(Kind.LIVE, f"{problem}; {folder} holds its trades, so K2 keeps trying")
    if held == Kind.CAPTURE:
        raise SetupError(
            f"live exchange: {problem}, and {folder} holds captured trades, which synthetic ones must not join: "
            "use another --dir, or remove them with `k2 reset`"
        )
    return Choice(Kind.SYNTHETIC, problem)


def told(choice: Choice, servers: Sequence[str], captures: int) -> str:
    """Return a choice in words.

    Args:
        choice: What is told.
        servers: URLs of the pipeline's exchanges.
        captures: How many of them are replayed.
    """
    match choice.kind:
        case Kind.FILES:
            return f"files ({choice.reason})"
        case Kind.LIVE:
            return f"the live exchange at {servers[0]} ({choice.reason})"
        case Kind.CAPTURE:
            return f"K2's own exchange, replaying {captures} capture(s)"
    return f"K2's own exchange with synthetic trades ({choice.reason})"


def _refuse_mixing(wanted: Kind, held: str | None, folder: str) -> None:
    if held is not None and (wanted is Kind.SYNTHETIC) != (held == Kind.SYNTHETIC):
        raise SetupError(
            f"{folder} holds {held} trades, expected none or {wanted} ones, as they could not be told apart again: "
            "use another --dir, or remove them with `k2 reset`"
        )


def probe(url: str, timeout_s: float = PROBE_TIMEOUT_S, ca_file: str | None = None) -> str | None:
    """Return None if an exchange sends a message on this stream in time, else what is wrong, in words for a user.

    Args:
        url: A stream's full URL (`wss://stream.binance.com:9443/stream?streams=btcusdt@trade`).
        timeout_s: For everything together: name, connection, handshakes, first message.
        ca_file: A CA that the system does not know.
    """
    deadline = time.monotonic() + timeout_s
    context = ssl.create_default_context(cafile=ca_file) if url.startswith("wss:") else None
    host = url.split("/")[2]
    try:
        with connect(url, ssl=context, open_timeout=timeout_s, close_timeout=0.2, max_size=2**20) as connection:
            connection.recv(timeout=max(0.01, deadline - time.monotonic()))
    except (OSError, WebSocketException) as error:
        return describe(error, host, timeout_s)
    return None


def describe(error: Exception, host: str, timeout_s: float) -> str:
    """Return what a failed probe means, in words for a user."""
    if isinstance(error, TimeoutError):
        return f"no answer from {host} within {timeout_s:g} s"
    return _describe_handshake(error, host) if isinstance(error, WebSocketException) else _describe_network(error, host)


def _describe_network(error: Exception, host: str) -> str:
    match error:
        case socket.gaierror():
            return f"no network: {host} cannot be resolved"
        case ssl.SSLError():
            return f"{host} cannot be trusted ({error})"
        case ConnectionRefusedError():
            return f"{host} refused the connection"
    return f"no network: {host} cannot be reached ({error})"


def _describe_handshake(error: WebSocketException, host: str) -> str:
    match error:
        case InvalidStatus():
            return _describe_status(error.response.status_code, host)
        case InvalidProxyStatus():
            return f"no network: the proxy refused {host} (HTTP {error.response.status_code})"
    return f"{host} speaks no WebSocket ({error})"


def _describe_status(status: int, host: str) -> str:
    if status in _REFUSED_HERE:
        return f"{host} refuses this region (HTTP {status})"
    if status in _TOO_MANY:
        return f"{host} refuses this address for a while (HTTP {status})"
    return f"{host} answered with HTTP {status}, expected 101"
