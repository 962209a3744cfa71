"""What a test exchange serves and how it behaves, as one frozen value.

Owns the defaults and the bounds of every setting. Built by `k2_cli` (from `k2 exchange`'s options) and by tests;
read by every other module of this package. It never reads the environment or the command line itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from k2_core.errors import SetupError

MINUTE_S = 60.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The exchange's documented limits; tests shrink them.

    Args:
        ping_interval_s: Seconds between two server pings ("every 20 seconds").
        pong_timeout_s: A connection whose oldest ping is unanswered for longer is dropped ("within a minute").
        connection_lifetime_s: A connection is dropped at this age ("24 hours").
        messages_per_s: Incoming pings, pongs and JSON messages a connection may send in one second.
        streams: Streams that one connection may listen to.
        connection_attempts: WebSocket handshakes that one address may try in 5 minutes.
        weight_per_minute: REST request weight that one address may use in a minute.
        strikes: Requests answered 429 in one minute before the address is banned (418); the exchange names no number.
        ban_s: Seconds of the first ban ("from 2 minutes"); it doubles each time up to 3 days.
    """

    ping_interval_s: float = 20.0
    pong_timeout_s: float = MINUTE_S
    connection_lifetime_s: float = DAY_S
    messages_per_s: int = 5
    streams: int = 1_024
    connection_attempts: int = 300
    weight_per_minute: int = 6_000
    strikes: int = 10
    ban_s: int = 120


@dataclass(frozen=True, slots=True)
class CaptureSource:
    """Replay of raw capture files, merged in receive-time order.

    Args:
        files: Capture files, plain or `.gz`; a line is `<receive time, ns> <JSON>`.
        speed: Multiple of the captured pace; 0 is as fast as the clients take it.
        pass_malformed: Send lines whose JSON cannot be parsed to every client, byte for byte, instead of counting and
            skipping them: a way to make a client meet malformed frames.
    """

    files: tuple[Path, ...]
    speed: float = 0.0
    pass_malformed: bool = False


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """Trades of a seeded generator, with event times of now.

    Args:
        symbols: Upper-case symbols; unknown ones get a plain profile.
        rate: Trades a second over all symbols; 0 is as fast as the clients take them.
        seed: The same seed gives the same ids, prices, quantities and sides.
        count: Trades to send before the source is finished; None never finishes.
        first_trade_ids: The first id of a symbol, for continuing an earlier run; others start at their profile's.
        order_ids: Add the buyer's and the seller's order id (`b`, `a`), as the exchange did until 2024.
    """

    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
    rate: float = 1_000.0
    seed: int = 1
    count: int | None = None
    first_trade_ids: dict[str, int] = field(default_factory=dict)
    order_ids: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """Everything a test exchange needs to know.

    Args:
        source: Where the messages come from.
        host: Address to listen on; loopback unless somebody insists.
        port: Port to listen on; 0 takes a free one.
        start_clients: Hold the source until this many clients have subscribed to something; 0 starts at once. At full
            speed the source also stands still while nobody listens, as there is no pace to keep.
        close_at_end: Close every connection with 1000 once the source is finished and all is sent.
        shutdown_notice_s: Seconds between the `serverShutdown` event and the closing of the connections on stop.
        client_buffer_bytes: At a paced speed a client with more unsent bytes than this is cut off, as the market does
            not wait. At full speed everybody waits for the slowest client instead.
        history_trades: Trades kept for each symbol to answer the REST API from; 41 bytes each.
        limits: The exchange's documented limits.
        certificate: PEM file with certificate and private key; None serves without TLS.
    """

    source: CaptureSource | SyntheticSource
    host: str = "127.0.0.1"
    port: int = 0
    start_clients: int = 1
    close_at_end: bool = True
    shutdown_notice_s: float = 0.0
    client_buffer_bytes: int = 4 * 1024 * 1024
    history_trades: int = 1_000_000
    limits: Limits = Limits()
    certificate: Path | None = None

    def __post_init__(self) -> None:
        """Refuse values that could only fail later.

        Raises:
            SetupError: A value is out of range.
        """
        pace = self.source.speed if isinstance(self.source, CaptureSource) else self.source.rate
        if pace < 0:
            raise SetupError(f"exchange pace: found {pace}, expected 0 (full speed) or more")
        if isinstance(self.source, CaptureSource) and not self.source.files:
            raise SetupError("exchange captures: found no file, expected at least one")
        if isinstance(self.source, SyntheticSource) and not self.source.symbols:
            raise SetupError("exchange symbols: found none, expected at least one")

    @property
    def full_speed(self) -> bool:
        """Whether the clients set the pace."""
        return (self.source.speed if isinstance(self.source, CaptureSource) else self.source.rate) == 0
