"""The generated market's promises: determinism, contiguous ids, the grids, bursts."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice, pairwise

import pytest

from k2_ingest.exchange.synthetic import PROFILES, Draft, Market

SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOGEUSDT", "NEWCOIN")


@pytest.fixture(scope="module")
def drafts() -> list[Draft]:
    return list(islice(Market(SYMBOLS, seed=7), 50_000))


def test_the_same_seed_gives_the_same_market(drafts: list[Draft]) -> None:
    assert list(islice(Market(SYMBOLS, seed=7), 3_000)) == drafts[:3_000]


def test_another_seed_gives_another(drafts: list[Draft]) -> None:
    assert list(islice(Market(SYMBOLS, seed=8), 100)) != drafts[:100]


def test_ids_are_contiguous_by_symbol(drafts: list[Draft]) -> None:
    ids = defaultdict(list)
    for draft in drafts:
        ids[draft.symbol].append(draft.trade_id)
    assert set(ids) == set(SYMBOLS)
    assert all(after - before == 1 for column in ids.values() for before, after in pairwise(column))
    assert ids["BTCUSDT"][0] == PROFILES["BTCUSDT"].first_id


def test_a_run_can_be_continued() -> None:
    [draft] = islice(Market(("BTCUSDT",), seed=1, first_trade_ids={"BTCUSDT": 42}), 1)
    assert draft.trade_id == 42


def test_prices_and_quantities_lie_on_their_grids(drafts: list[Draft]) -> None:
    for draft in drafts:
        profile = PROFILES.get(draft.symbol)
        if profile is not None:
            assert draft.price > 0
            assert draft.quantity > 0
            assert draft.price % profile.tick == 0
            assert draft.quantity % profile.lot == 0


def test_prices_stay_plausible() -> None:
    prices = [draft.price for draft in islice(Market(("BTCUSDT",), seed=3), 400_000)]
    start = PROFILES["BTCUSDT"].price
    assert start * 0.9 < min(prices) < max(prices) < start * 1.1


def test_trades_come_in_bursts_of_one_symbol_and_side(drafts: list[Draft]) -> None:
    followers = [(before, after) for before, after in pairwise(drafts) if after.gap == 0]
    assert len(followers) > len(drafts) / 2
    assert all((b.symbol, b.buyer_is_maker) == (a.symbol, a.buyer_is_maker) for b, a in followers)
    assert all((a.price - b.price) * (-1 if a.buyer_is_maker else 1) >= 0 for b, a in followers)


def test_the_mean_gap_is_one(drafts: list[Draft]) -> None:
    assert sum(draft.gap for draft in drafts) / len(drafts) == pytest.approx(1.0, rel=0.05)


def test_both_sides_trade(drafts: list[Draft]) -> None:
    sides = Counter(draft.buyer_is_maker for draft in drafts)
    assert 0.8 < sides[True] / sides[False] < 1.25
