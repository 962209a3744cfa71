"""Reference data of symbols, as the pipeline's file has them: the steps in which prices and quantities move.

Called by the sink, which joins them to what was committed (`k2_core.quality`), by the query service, which shows them,
and by the operator, which starts both again when they change. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from k2_core.spec import PipelineSpec
from k2_core.types import Symbol


class Listing(NamedTuple):
    """A symbol where it is traded."""

    exchange: str
    market: str
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class Steps:
    """In which steps the numbers of a symbol's trades move; None where that is not known.

    Args:
        tick_size: Each price is a multiple of it.
        step_size: Each quantity is.
    """

    tick_size: Decimal | None = None
    step_size: Decimal | None = None


References = Mapping[Listing, Steps]
"""Of the symbols of which something is known."""


def references(spec: PipelineSpec) -> References:
    """Return what a pipeline says of its symbols; the first of several sources that says it of one is believed."""
    found: dict[Listing, Steps] = {}
    for source in spec.ingestion:
        for symbol in source.symbols or ():
            at = Listing(source.venue, source.exchange_market, Symbol(symbol.name))
            before = found.get(at, Steps())
            steps = Steps(before.tick_size or _exact(symbol.tick_size), before.step_size or _exact(symbol.step_size))
            if steps != Steps():
                found[at] = steps
    return found


def ticks(known: References) -> Mapping[Listing, Decimal]:
    """Return the tick sizes that are known."""
    return {at: steps.tick_size for at, steps in known.items() if steps.tick_size is not None}


def lots(known: References) -> Mapping[Listing, Decimal]:
    """Return the step sizes that are known."""
    return {at: steps.step_size for at, steps in known.items() if steps.step_size is not None}


def _exact(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
