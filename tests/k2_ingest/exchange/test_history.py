"""What the exchange remembers of its trades."""

from __future__ import annotations

import pytest

from k2_ingest.exchange.history import History, SymbolHistory
from k2_ingest.exchange.messages import Trade


def trade(trade_id: int, *, price: int = 5, time_us: int | None = None, maker: bool = True) -> Trade:
    return Trade("X", trade_id, price, 10, trade_id if time_us is None else time_us, maker)


def filled(count: int, limit: int = 1_000) -> SymbolHistory:
    history = SymbolHistory("X", limit)
    for number in range(count):
        history.append(trade(number))
    return history


@pytest.mark.parametrize(
    ("from_id", "limit", "ids"),
    [(None, 2, [8, 9]), (3, 2, [3, 4]), (9, 5, [9]), (10, 5, []), (-1, 1, [0]), (None, 99, list(range(10)))],
    ids=["newest", "middle", "end", "beyond", "before", "all"],
)
def test_trades_by_id(from_id: int | None, limit: int, ids: list[int]) -> None:
    assert [found.trade_id for found in filled(10).trades(from_id, limit)] == ids


def test_a_trade_comes_back_as_it_was() -> None:
    history = SymbolHistory("X", 10)
    history.append(trade(3, price=7, time_us=9, maker=False))
    assert history.trades(None, 1) == [Trade("X", 3, 7, 10, 9, False)]


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    history = filled(1_000, limit=100)
    assert 100 <= len(history) <= 125
    assert history.trades(None, 1)[0].trade_id == 999


def test_a_repeated_trade_is_kept_once() -> None:
    history = filled(3)
    history.append(trade(2))
    assert len(history) == 3


def test_fills_of_one_order_aggregate() -> None:
    history = SymbolHistory("X", 100)
    for number, (price, time_us, maker) in enumerate([(5, 1, True), (5, 1, True), (6, 1, True), (6, 1, False)]):
        history.append(trade(number, price=price, time_us=time_us, maker=maker))
    found = history.aggregates(10)
    assert [(a.aggregate_id, a.first_id, a.last_id, a.quantity) for a in found] == [
        (1, 0, 1, 20),
        (2, 2, 2, 10),
        (3, 3, 3, 10),
    ]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ({"limit": 2}, [9, 10]),
        ({"limit": 2, "from_id": 4}, [4, 5]),
        ({"limit": 9, "start_us": 7}, [8, 9, 10]),
        ({"limit": 2, "end_us": 3}, [3, 4]),
        ({"limit": 9, "start_us": 2, "end_us": 3}, [3, 4]),
        ({"limit": 9, "start_us": 99}, []),
    ],
    ids=["newest", "by-id", "from-time", "to-time", "between", "nothing"],
)
def test_aggregates_are_found_by_id_and_time(arguments: dict[str, int], ids: list[int]) -> None:
    assert [found.aggregate_id for found in filled(10).aggregates(**arguments)] == ids


def test_symbols_are_known_once_opened() -> None:
    history = History(10)
    assert history.get("B") is None
    assert history.open("B") is history.open("B")
    history.open("A")
    assert history.symbols() == ["A", "B"]
