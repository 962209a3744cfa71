"""What is kept, what goes first, and that one view may be larger than the budget."""

from __future__ import annotations

import numpy as np
import pytest

from k2_core.records import TRADES
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_query import view_cache
from k2_query.boundary import LogPartition
from k2_query.segments import TailStore, TailView
from k2_query.view_cache import ViewCache
from support.query import BASE, make_records
from support.records import arrow_rows

AT = LogPartition(TopicName("market.crypto.trades.binance"), Partition(0))


def view() -> TailView:
    """All views have the same number of bytes."""
    store = TailStore(TRADES, 2**40)
    store.restart({AT: Offset(0)}, {AT.topic: TopicId("the-id")})
    slots, offsets = np.full(10, store.slot(AT), dtype=np.int64), np.arange(10, dtype=np.int64)
    store.append(arrow_rows(make_records("BTCUSDT", 1, 10, BASE)), slots, offsets, {store.slot(AT): 10})
    return store.view()


def test_what_nobody_asked_for_the_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    views = {name: view() for name in "abc"}
    size = sum(segment.nbytes for segment in views["a"].segments)
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 2 * size)
    cache: ViewCache[str] = ViewCache()
    cache.keep("a", views["a"])
    cache.keep("b", views["b"])
    assert cache.get("a") is views["a"]
    cache.keep("c", views["c"])
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c")) == (views["a"], views["c"])


def test_the_newest_is_kept_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "CACHE_BYTES", 1)
    cache: ViewCache[str] = ViewCache()
    newest = view()
    cache.keep("a", view())
    cache.keep("b", newest)
    assert (cache.get("a"), cache.get("b")) == (None, newest)
