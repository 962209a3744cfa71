"""Which of a source's symbols its venue knows: asked at the start and now and then, shown, and told to the operator.

Owns when to ask and what follows: an unknown symbol is left out of the subscription until the venue knows it, and a
venue that does not say keeps nothing from flowing. Called by `service`. It never touches the feed itself, and gives
nothing up: what has once been subscribed to stays so for as long as the process lives.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final, Protocol

from k2_core.clock import utc_now
from k2_core.errors import VenueUnavailableError
from k2_core.service_report import ServiceReport
from k2_core.symbols_report import KNOWN, NOT_ASKED, TELL_EVERY_S, UNKNOWN, listed
from k2_core.types import Symbol
from k2_ingest.feed import Backoff

log = logging.getLogger(__name__)

FIRST_LOOK_S: Final = 5.0
"""What a start waits for the venue's answer at most."""
LONGEST_LOOK_S: Final = 60.0
CALM_S: Final = 3_600.0
"""Between two looks while all symbols are known."""
LONGEST_PAUSE_S: Final = 900.0
"""Between two looks while some are not, or the venue does not say."""


class Questions(Protocol):
    """Asks a venue."""

    base_url: str

    async def unknown(self, symbols: Sequence[Symbol], suspects: Collection[Symbol] = ()) -> frozenset[Symbol]:
        """Return which symbols the venue does not know; a VenueUnavailableError where it does not say."""


class SymbolWatch:
    """Knows what one source's venue says of its symbols.

    Args:
        source: Name of the source.
        field: Of the pipeline, where the symbols are to be corrected, such as `spec.ingestion[0].symbols`.
        symbols: All that the pipeline asks for.
        questions: Asks the venue.
        tell: Takes each report, which nobody waits for.
        first_pause_s: Before a second look, while the venue does not know all symbols; it grows from there.

    Attributes:
        unknown: Those that the venue does not know; None while it has not said.
        on_known: Called with symbols that are to be subscribed to as well: the venue has come to know them.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # what is asked, whom, and who hears of it
        self,
        source: str,
        field: str,
        symbols: Sequence[Symbol],
        questions: Questions,
        tell: Callable[[ServiceReport], object],
        first_pause_s: float,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.unknown: frozenset[Symbol] | None = None
        self.on_known: Callable[[Sequence[Symbol]], object] = lambda _: None
        self._source = source
        self._field = field
        self._symbols = symbols
        self._questions = questions
        self._tell = tell
        self._now = now
        self._backoff = Backoff(first_pause_s, max(first_pause_s, LONGEST_PAUSE_S))
        self._problem: str | None = None
        self._retry_after_s = 0.0
        self._due_s = 0.0
        self._chosen: set[Symbol] | None = None

    @property
    def wanted(self) -> list[Symbol]:
        """What to subscribe to, in the pipeline's order: all but what the venue does not know."""
        return [symbol for symbol in self._symbols if symbol not in (self.unknown or ())]

    @property
    def unknown_count(self) -> int | None:
        """How many symbols the venue does not know; None while it has not said."""
        return None if self.unknown is None else len(self.unknown)

    def check(self) -> str | None:
        """See `k2_core.health.Check`: content unless the venue has said that it does not know a symbol."""
        return self._complaint() if self.unknown else None

    async def first(self) -> None:
        """Ask for the first time; a venue that does not say within `FIRST_LOOK_S` is taken to know all symbols."""
        await self._look(FIRST_LOOK_S)
        self._chosen = set(self.wanted)

    async def run(self) -> None:
        """Ask and tell for ever, after `first`: nobody would notice that a watch has ended."""
        self._due_s = time.monotonic() + self._pause_s()
        while True:
            try:
                await self._turn()
            except Exception as error:  # policy: whatever it was, it is said, and the next turn is the next try
                log.exception("the watch of symbols failed: it goes on", extra={"reason": repr(error)})
                await asyncio.sleep(self._backoff.next_s())

    async def _turn(self) -> None:
        self._tell(self.report())
        await asyncio.sleep(min(TELL_EVERY_S, max(0.0, self._due_s - time.monotonic())))
        if time.monotonic() >= self._due_s:
            await self._look(LONGEST_LOOK_S)
            self._due_s = time.monotonic() + self._pause_s()

    def report(self) -> ServiceReport:
        """Return what is told."""
        if self.unknown:
            return ServiceReport(self._source, self._now(), UNKNOWN, self._complaint())
        if self._problem is not None:
            text = f"source {self._source}: not known whether the exchange knows its symbols, all are subscribed to: "
            return ServiceReport(self._source, self._now(), NOT_ASKED, text + self._problem)
        return ServiceReport(self._source, self._now(), KNOWN)

    async def _look(self, limit_s: float) -> None:
        before = self.unknown
        try:
            async with asyncio.timeout(limit_s):
                self.unknown = await self._questions.unknown(self._symbols, before or frozenset())
        except (VenueUnavailableError, TimeoutError) as error:
            self._unanswered(error, limit_s)
            return
        self._problem, self._retry_after_s = None, 0.0
        if self.unknown != (before or frozenset()):
            self._backoff.reset()
            if self.unknown:
                log.warning("%s", self._complaint(), extra={"symbols": sorted(self.unknown)})
            else:
                log.info("source %s: the exchange knows all symbols now", self._source)
        if self._chosen is not None and (new := [symbol for symbol in self.wanted if symbol not in self._chosen]):
            self._chosen.update(new)
            self.on_known(new)

    def _unanswered(self, error: VenueUnavailableError | TimeoutError, limit_s: float) -> None:
        """What was known before stands."""
        text = str(error) or f"{self._questions.base_url}: found no answer within {limit_s:g} s, expected its symbols"
        if self._problem is None:
            log.warning("the exchange was not asked for its symbols: all flows on", extra={"reason": text})
        self._problem = text
        self._retry_after_s = getattr(error, "retry_after_s", None) or 0.0

    def _pause_s(self) -> float:
        if self.unknown or self._problem is not None:
            return max(self._backoff.next_s(), self._retry_after_s)
        return CALM_S * (0.5 + 0.5 * random.random())  # noqa: S311  # spreads the questions of many sources

    def _complaint(self) -> str:
        names = [symbol for symbol in self._symbols if symbol in (self.unknown or ())]
        rest = "all others flow" if len(names) < len(self._symbols) else "nothing is received"
        return (
            f"source {self._source}: the exchange at {self._questions.base_url} does not know {listed(names)}; {rest}. "
            f"Correct {self._field}, or wait: it is asked again"
        )
