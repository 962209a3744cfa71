"""The look at the network that decides where trades come from, in a thread, as it may take seconds.

Called by `k2_cli.up` while Kafka starts; what it means is `k2_cli.source`'s.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from k2_cli import source
from k2_core.errors import VenueUnavailableError
from k2_core.spec import IngestionSpec

REST_TIMEOUT_S: Final = 5.0


def look(
    asked: source.Asked, held: str | None, folder: str, exchanges: Sequence[IngestionSpec]
) -> Future[source.Choice]:
    """Return the choice of a source, to come.

    Args:
        asked: By the user.
        held: The kind of trades that the folder holds already, or None.
        folder: Its name, for messages.
        exchanges: The pipeline's sources that are exchanges.

    Raises:
        SetupError: The wanted trades would mix with others; from the result, too.
    """
    future: Future[source.Choice] = Future()
    decided = source.decided(asked, held, folder) if exchanges else source.FILES_ALONE
    if decided is not None:
        future.set_result(decided)
        return future
    pool = ThreadPoolExecutor(1, thread_name_prefix="k2-probe")
    future = pool.submit(lambda: source.choose(problem_of(exchanges[0]), held, folder))
    pool.shutdown(wait=False)
    return future


def problem_of(exchange: IngestionSpec) -> str | None:
    """Return None if an exchange answers, else what is wrong; one that knows no symbol stays silent and does answer."""
    # Of all symbols: one of them alone may be unknown, or not be traded for a while.
    streams = "/".join(f"{name.lower()}@trade" for name in exchange.symbol_names)
    problem = source.probe(f"{exchange.stream_url}/stream?streams={streams}")
    return None if problem is not None and _knows_none(exchange) else problem


def _knows_none(exchange: IngestionSpec) -> bool:
    from k2_ingest.venues.binance_symbols import SymbolQuestions  # noqa: PLC0415  # seldom needed

    async def ask() -> frozenset[str]:
        async with asyncio.timeout(REST_TIMEOUT_S):
            questions = SymbolQuestions(exchange.rest_server, ssl.create_default_context())
            return await questions.unknown(exchange.symbol_names)

    try:
        return asyncio.run(ask()) == set(exchange.symbol_names)
    except (VenueUnavailableError, TimeoutError):
        return False
