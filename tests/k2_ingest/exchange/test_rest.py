"""The REST API: routes, parameters, weights, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from k2_ingest.exchange.config import Limits
from k2_ingest.exchange.history import History
from k2_ingest.exchange.messages import Trade
from k2_ingest.exchange.rest import HttpReply, RestApi
from k2_ingest.exchange.weights import Accounts

NOW_US = 1_700_000_000_123_456


@pytest.fixture
def api() -> RestApi:
    history = History(10_000)
    for number in range(2_000):
        history.open("BTCUSDT").append(
            Trade("BTCUSDT", 100 + number, 400_000_100, 1_200_000_000, NOW_US + number * 1_000, number % 2 == 0)
        )
    history.open("ETHUSDT")
    return RestApi(history, Accounts(Limits(weight_per_minute=60, strikes=1)), lambda: {"finished": False})


def get(api: RestApi, target: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> HttpReply:
    return api.answer(method, target, headers or {}, "127.0.0.1", NOW_US)


def body(api: RestApi, target: str, headers: Mapping[str, str] | None = None) -> Any:
    reply = get(api, target, headers)
    assert reply.status == 200
    return reply.body


def test_ping_and_time(api: RestApi) -> None:
    assert body(api, "/api/v3/ping") == {}
    assert body(api, "/api/v3/time") == {"serverTime": 1_700_000_000_123}
    assert body(api, "/api/v3/time", {"x-mbx-time-unit": "microsecond"}) == {"serverTime": NOW_US}


def test_a_historical_trade_has_the_documented_form(api: RestApi) -> None:
    assert body(api, "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=100&limit=1") == [
        {
            "id": 100,
            "price": "4.00000100",
            "qty": "12.00000000",
            "quoteQty": "48.00001200",
            "time": 1_700_000_000_123,
            "isBuyerMaker": True,
            "isBestMatch": True,
        }
    ]


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ("", 1_600, 500),
        ("&limit=5000", 1_100, 1_000),
        ("&fromId=150&limit=3", 150, 3),
        ("&fromId=2099", 2_099, 1),
        ("&fromId=1", 100, 500),
    ],
    ids=["newest", "limit-is-capped", "from-id", "last", "before-the-first"],
)
def test_historical_trades_by_id(api: RestApi, query: str, first: int, count: int) -> None:
    trades = body(api, f"/api/v3/historicalTrades?symbol=BTCUSDT{query}")
    assert (trades[0]["id"], len(trades)) == (first, count)


def test_recent_trades_are_the_newest(api: RestApi) -> None:
    assert [trade["id"] for trade in body(api, "/api/v3/trades?symbol=BTCUSDT&limit=2")] == [2_098, 2_099]


def test_an_aggregate_trade_has_the_documented_form(api: RestApi) -> None:
    [aggregate] = body(api, "/api/v3/aggTrades?symbol=BTCUSDT&fromId=2&limit=1")
    assert aggregate == {
        "a": 2,
        "p": "4.00000100",
        "q": "12.00000000",
        "f": 101,
        "l": 101,
        "T": 1_700_000_000_124,
        "m": False,
        "M": True,
    }


@pytest.mark.parametrize("factor", [1, 1_000], ids=["ms", "us"])
def test_aggregate_trades_by_time_in_either_unit(api: RestApi, factor: int) -> None:
    start, end = 1_700_000_000_130 * factor, 1_700_000_000_133 * factor
    found = body(api, f"/api/v3/aggTrades?symbol=BTCUSDT&startTime={start}&endTime={end}")
    assert [aggregate["f"] for aggregate in found] == [107, 108, 109]


def test_exchange_info_lists_symbols(api: RestApi) -> None:
    assert [s["symbol"] for s in body(api, "/api/v3/exchangeInfo")["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    [symbol] = body(api, "/api/v3/exchangeInfo?symbol=ETHUSDT")["symbols"]
    assert (symbol["baseAsset"], symbol["quoteAsset"]) == ("ETH", "USDT")


def test_exchange_info_takes_a_list(api: RestApi) -> None:
    found = body(api, "/api/v3/exchangeInfo?symbols=" + quote('["ETHUSDT"]'))
    assert [symbol["symbol"] for symbol in found["symbols"]] == ["ETHUSDT"]


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/v3/historicalTrades", 400, -1102),
        ("/api/v3/historicalTrades?symbol=", 400, -1102),
        ("/api/v3/historicalTrades?symbol=btcusdt", 400, -1100),
        ("/api/v3/historicalTrades?symbol=NOSUCH", 400, -1121),
        ("/api/v3/historicalTrades?symbol=BTCUSDT&limit=x", 400, -1100),
        ("/api/v3/historicalTrades?symbol=BTCUSDT&limit=0", 400, -1130),
        ("/api/v3/historicalTrades?symbol=BTCUSDT&symbol=ETHUSDT", 400, -1101),
        ("/api/v3/trades?symbol=BTCUSDT&fromId=1", 400, -1104),
        ("/api/v3/exchangeInfo?symbols=[]", 400, -1100),
        ("/api/v3/exchangeInfo?symbols=nonsense", 400, -1100),
        ("/api/v3/exchangeInfo?symbols=" + quote('["NOSUCH"]'), 400, -1121),
        ("/api/v3/depth", 404, -1000),
    ],
)
def test_bad_requests_get_the_exchanges_codes(api: RestApi, target: str, status: int, code: int) -> None:
    reply = get(api, target)
    assert reply.status == status
    assert isinstance(reply.body, dict)
    assert reply.body["code"] == code


def test_only_get_is_answered(api: RestApi) -> None:
    assert get(api, "/api/v3/ping", method="DELETE").status == 405


def test_every_answer_says_the_used_weight(api: RestApi) -> None:
    assert get(api, "/api/v3/aggTrades?symbol=BTCUSDT").headers["X-MBX-USED-WEIGHT-1M"] == "4"
    assert get(api, "/api/v3/historicalTrades?symbol=BTCUSDT").headers["X-MBX-USED-WEIGHT-1M"] == "29"
    assert get(api, "/api/v3/historicalTrades").headers["X-MBX-USED-WEIGHT-1M"] == "54"


def test_too_much_weight_is_429_then_418(api: RestApi) -> None:
    replies = [get(api, "/api/v3/historicalTrades?symbol=BTCUSDT") for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 429, 418]
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in replies[2:])
    for reply in replies[2:]:
        assert isinstance(reply.body, dict)
        assert reply.body["code"] == -1003


def test_the_status_page_costs_nothing(api: RestApi) -> None:
    assert get(api, "/k2/status") == HttpReply(200, {"finished": False}, {})


def test_what_lists_any_symbol_has_trades_of_those_that_traded_alone() -> None:
    replay = RestApi(History(10), Accounts(Limits()), dict, lists_any=True)
    for query in ("symbol=NEW", "symbols=" + quote('["NEW"]')):
        [symbol] = body(replay, f"/api/v3/exchangeInfo?{query}")["symbols"]
        assert symbol["symbol"] == "NEW"
    assert body(replay, "/api/v3/exchangeInfo")["symbols"] == []
    for target in ("trades?symbol=NEW", "exchangeInfo?symbol=new", "exchangeInfo?symbols=" + quote('["new"]')):
        assert get(replay, f"/api/v3/{target}").status == 400
