"""A seeded market: trades with realistic prices, sizes, bursts and contiguous ids.

Owns the statistics. A taker order sweeps several resting orders, so trades come in bursts that share a symbol, a side
and a millisecond and move the price tick by tick; between bursts the mid price walks at random and is drawn back
slowly, so that a run of days stays plausible. Sizes are log-normal on the lot grid. Called by the exchange's pump and
by benchmarks. Pure: the same arguments give the same market; times are set by whoever sends the trades.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2_ingest.exchange.messages import SCALE

BLOCK_TRADES = 1_024
_MEAN_FILLS = 3.0  # fills of one taker order; geometric, as a sweep ends at each level with about the same chance
_MAX_FILLS = 400
_STEP_TICKS = 3.0  # standard deviation of the mid price between two bursts of a symbol
_PULL = 0.02  # share of the distance from its start that the mid price is drawn back in a block
_SWEEP = 0.3  # chance that the next fill of a burst is one tick further
_SIZE_SIGMA = 1.6  # of the log of a size: most are dust, a few are a thousand times the median

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Profile:
    """How a symbol trades; price, tick, lot and size are scaled by 10**8.

    Args:
        price: Price at the start.
        tick: Smallest step of the price.
        lot: Smallest step of the quantity.
        size: Median quantity.
        weight: Share of the bursts, relative to the other symbols.
        first_id: Id of the first trade.
    """

    price: int
    tick: int
    lot: int
    size: int
    weight: float
    first_id: int


def _profile(numbers: tuple[float, float, float, float], weight: float, first_id: int) -> Profile:
    price, tick, lot, size = (round(number * SCALE) for number in numbers)
    return Profile(price, tick, lot, size, weight, first_id)


PROFILES: Mapping[str, Profile] = {
    "BTCUSDT": _profile((61_837.63, 0.01, 0.00001, 0.002), 30, 4_000_000_000),
    "ETHUSDT": _profile((2_683.81, 0.01, 0.0001, 0.03), 25, 2_000_000_000),
    "SOLUSDT": _profile((153.42, 0.01, 0.001, 0.5), 12, 700_000_000),
    "BNBUSDT": _profile((512.3, 0.1, 0.001, 0.1), 8, 900_000_000),
    "XRPUSDT": _profile((0.6121, 0.0001, 1, 120), 8, 600_000_000),
    "DOGEUSDT": _profile((0.10321, 0.00001, 1, 600), 7, 800_000_000),
    "ADAUSDT": _profile((0.3412, 0.0001, 0.1, 150), 4, 500_000_000),
    "AVAXUSDT": _profile((21.53, 0.01, 0.01, 3), 3, 300_000_000),
    "LINKUSDT": _profile((10.43, 0.01, 0.01, 6), 2, 300_000_000),
    "LTCUSDT": _profile((59.21, 0.01, 0.001, 1), 1, 300_000_000),
}
PLAIN = _profile((100.0, 0.01, 0.001, 1), 1, 1)


class Draft(NamedTuple):
    """A trade without its time.

    `gap` is the pause before it, in units of the mean pause between two trades: 0 within a burst.
    """

    symbol: str
    trade_id: int
    price: int
    quantity: int
    buyer_is_maker: bool
    gap: float


class Market:
    """An endless supply of trades.

    Args:
        symbols: Symbols to trade.
        seed: The same seed gives the same market.
        first_trade_ids: First ids that differ from the profiles'.
    """

    def __init__(self, symbols: tuple[str, ...], seed: int, first_trade_ids: Mapping[str, int] | None = None) -> None:
        self._symbols = symbols
        self._profiles = [PROFILES.get(symbol, PLAIN) for symbol in symbols]
        self._random = np.random.default_rng(seed)
        firsts = first_trade_ids or {}
        self._next_ids = [firsts.get(s, p.first_id) for s, p in zip(symbols, self._profiles, strict=True)]
        self._mids = [profile.price // profile.tick for profile in self._profiles]
        weights = np.array([profile.weight for profile in self._profiles])
        self._chances = weights / weights.sum()

    def __iter__(self) -> Iterator[Draft]:
        """Trades for ever, made a block at a time."""
        while True:
            yield from self._block()

    def _block(self) -> Iterator[Draft]:
        random = self._random
        fills = np.minimum(random.geometric(1 / _MEAN_FILLS, BLOCK_TRADES), _MAX_FILLS)
        fills = fills[: int(np.searchsorted(np.cumsum(fills), BLOCK_TRADES)) + 1]
        bursts = fills.size
        burst_of = np.repeat(np.arange(bursts), fills)
        first_of = np.concatenate(([0], np.cumsum(fills)[:-1]))
        owners = random.choice(len(self._symbols), bursts, p=self._chances)
        sells = random.random(bursts) < 0.5
        gaps = np.zeros(burst_of.size)
        gaps[first_of] = random.exponential(1.0, bursts) * fills.mean()
        further = (random.random(burst_of.size) < _SWEEP).astype(np.int64)
        total = np.cumsum(further)
        slips: IntArray = total - total[first_of][burst_of]
        signed = np.where(sells[burst_of], -slips, slips)
        columns = self._columns(owners[burst_of], burst_of, signed)
        names = [self._symbols[owner] for owner in owners[burst_of].tolist()]
        rows = zip(names, *(c.tolist() for c in columns), sells[burst_of].tolist(), gaps.tolist(), strict=True)
        return map(Draft._make, rows)

    def _columns(self, owner: IntArray, burst_of: IntArray, slips: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Ids, prices and quantities of one block, symbol by symbol."""
        ids, prices, quantities = (np.zeros(owner.size, np.int64) for _ in range(3))
        for index, profile in enumerate(self._profiles):
            mine = np.flatnonzero(owner == index)
            ids[mine] = self._next_ids[index] + np.arange(mine.size)
            self._next_ids[index] += mine.size
            mids = self._walk(index, burst_of[mine])
            prices[mine] = np.maximum(mids + slips[mine], 1) * profile.tick
            sizes = self._random.lognormal(np.log(profile.size / profile.lot), _SIZE_SIGMA, mine.size)
            quantities[mine] = np.maximum(np.rint(sizes), 1).astype(np.int64) * profile.lot
        return ids, prices, quantities

    def _walk(self, index: int, burst_of: IntArray) -> IntArray:
        """Mid prices in ticks; they move between bursts and stand still within one."""
        profile = self._profiles[index]
        start = profile.price // profile.tick
        spread = max(_STEP_TICKS, start * 1e-6)
        new_burst = np.diff(burst_of, prepend=-1) != 0
        steps = np.where(new_burst, self._random.normal(0.0, spread, burst_of.size), 0.0)
        drawn_back = self._mids[index] + round(_PULL * (start - self._mids[index]))
        mids: IntArray = np.maximum(drawn_back + np.rint(np.cumsum(steps)).astype(np.int64), 1)
        if mids.size:
            self._mids[index] = int(mids[-1])
        return mids
