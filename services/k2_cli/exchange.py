"""`k2 exchange`: the test exchange on a port, replaying captures or making trades up.

Builds the configuration from options and serves until SIGTERM; everything else is `k2_ingest.exchange`'s.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k2_core import logs
from k2_core.errors import SpecError

if TYPE_CHECKING:
    from k2_ingest.exchange.config import ExchangeConfig

EXAMPLE = "Example:  k2 exchange --symbols BTCUSDT,ETHUSDT --rate 5000 --port 9443"


def exchange(  # noqa: PLR0913  # an option each
    capture: Annotated[
        list[Path] | None, typer.Option(help="Replay this raw capture (plain or .gz); may be given again.")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="More captures.", metavar="[FILE]...")] = None,
    *,
    speed: Annotated[float, typer.Option(help="Multiple of the captured pace; 0 is as fast as clients take it.")] = 1.0,
    symbols: Annotated[str, typer.Option(help="Symbols of synthetic trades, comma separated.")] = "BTCUSDT,ETHUSDT",
    rate: Annotated[float, typer.Option(help="Synthetic trades a second; 0 is as fast as clients take them.")] = 1000.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same trades.")] = 1,
    count: Annotated[int | None, typer.Option(help="Synthetic trades to send; without it there is no end.")] = None,
    first_id: Annotated[
        list[str] | None, typer.Option(metavar="SYMBOL=ID", help="First trade id of a symbol; may be given again.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 9443,
    start_clients: Annotated[int, typer.Option(help="Begin when so many clients listen.", min=0)] = 1,
    close_at_end: Annotated[
        bool, typer.Option("--close-at-end/--keep-open", help="Close connections when the replay is finished.")
    ] = True,
    pass_malformed: Annotated[
        bool, typer.Option(help="Send captured lines that do not parse to every client, byte for byte.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Say where it listens as one JSON object.")] = False,
) -> None:
    """Run the test exchange: Binance's WebSocket streams and market-data REST, from captures or a seeded market."""
    # The exchange's modules take half a second to import; no other command needs them.
    from k2_ingest.exchange.config import CaptureSource, ExchangeConfig, SyntheticSource  # noqa: PLC0415  # see above

    files = (*(capture or ()), *(more or ()))
    names = tuple(name.strip().upper() for name in symbols.split(",") if name.strip())
    source = (
        CaptureSource(files, speed, pass_malformed)
        if files
        else SyntheticSource(names, rate, seed, count, parse_first_ids(first_id or ()))
    )
    config = ExchangeConfig(source, host, port, start_clients, close_at_end)
    logs.configure("k2-exchange", "INFO")
    _serve(config, json_output=json_output)


def parse_first_ids(texts: list[str] | tuple[()]) -> dict[str, int]:
    """Return the ids by symbol that `SYMBOL=ID` texts say.

    Raises:
        SpecError: One says nothing of the kind.
    """
    found: dict[str, int] = {}
    for text in texts:
        symbol, _, number = text.partition("=")
        if not symbol or not number.isdecimal():
            raise SpecError("--first-id", repr(text), "SYMBOL=ID, such as BTCUSDT=4000000000")
        found[symbol.upper()] = int(number)
    return found


def _serve(config: ExchangeConfig, *, json_output: bool) -> None:
    import uvloop  # noqa: PLC0415  # as above

    from k2_ingest.exchange.server import Exchange, serve  # noqa: PLC0415  # as above

    def ready(running: Exchange) -> None:
        where = {"websocket_url": running.websocket_url, "rest_url": running.rest_url}
        text = json.dumps(where) if json_output else f"exchange listens on {where['websocket_url']} (Ctrl-C ends it)"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(config, stop=stop, ready=ready)

    uvloop.run(main())
