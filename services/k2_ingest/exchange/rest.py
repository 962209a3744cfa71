"""The market-data part of the exchange's REST API, and the test exchange's own status page.

Owns routes, parameters, weights, error bodies and the form of the answers ("Market Data endpoints"). Called by
`session` for each plain HTTP request. It reads the history; it never writes it and never touches a socket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from k2_core.errors import PermanentError
from k2_ingest.exchange.history import AggregateTrade, History, SymbolHistory
from k2_ingest.exchange.messages import SCALE, TimeUnit, Trade, decimal
from k2_ingest.exchange.weights import Accounts

DEFAULT_LIMIT = 500
MAX_LIMIT = 1_000
_NUMBER = re.compile(r"[0-9]{1,20}")
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,50}")
_FIRST_US_TIME = 10**14  # times may be sent in either unit: 10**14 ms is the year 5138, 10**14 us is 1973


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer with a JSON body."""

    status: int
    body: object
    headers: Mapping[str, str]

    def encoded(self) -> bytes:
        """The body's bytes."""
        return json.dumps(self.body, separators=(",", ":")).encode()


class RequestError(PermanentError):
    """A request that the exchange refuses, with its error code.

    Args:
        code: The exchange's error code.
        text: The exchange's words.
        status: HTTP status.
    """

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
        self.body = {"code": code, "msg": text}


@dataclass(frozen=True, slots=True)
class _Request:
    parameters: Mapping[str, str]
    unit: TimeUnit
    now_us: int

    def number(self, name: str, default: int | None = None) -> int | None:
        text = self.parameters.get(name)
        if text is None:
            return default
        if not _NUMBER.fullmatch(text):
            raise RequestError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            )
        return int(text)

    def limit(self) -> int:
        limit = self.number("limit", DEFAULT_LIMIT)
        if not limit:
            raise RequestError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(limit, MAX_LIMIT)

    def time_us(self, name: str) -> int | None:
        value = self.number(name)
        return value * 1_000 if value is not None and value < _FIRST_US_TIME else value

    def printed(self, time_us: int) -> int:
        return time_us if self.unit is TimeUnit.MICROSECOND else time_us // 1_000


@dataclass(frozen=True, slots=True)
class _Route:
    weight: int
    parameters: frozenset[str]
    answer: Callable[[_Request], object]


class RestApi:
    """The REST side of the exchange.

    Args:
        history: Trades sent so far.
        accounts: Use of the API by address.
        status: Gives the body of `/k2/status`.
        lists_any: Whether every symbol counts as listed: what a capture will trade is not known before it has.
    """

    def __init__(
        self, history: History, accounts: Accounts, status: Callable[[], object], *, lists_any: bool = False
    ) -> None:
        self._history = history
        self._accounts = accounts
        self._status = status
        self._lists_any = lists_any
        trades = frozenset({"symbol", "limit"})
        self._routes = {
            "/api/v3/ping": _Route(1, frozenset(), lambda _: {}),
            "/api/v3/time": _Route(1, frozenset(), lambda request: {"serverTime": request.printed(request.now_us)}),
            "/api/v3/exchangeInfo": _Route(20, frozenset({"symbol", "symbols"}), self._exchange_info),
            "/api/v3/trades": _Route(25, trades, self._trades),
            "/api/v3/historicalTrades": _Route(25, trades | {"fromId"}, self._trades),
            "/api/v3/aggTrades": _Route(4, trades | {"fromId", "startTime", "endTime"}, self._aggregates),
        }

    def answer(self, method: str, target: str, headers: Mapping[str, str], address: str, now_us: int) -> HttpReply:
        """Answer one request.

        Args:
            method: HTTP method.
            target: Path and query.
            headers: Request headers with lower-case names.
            address: The client's address, which the weights are counted for.
            now_us: UTC microseconds.
        """
        url = urlsplit(target)
        if url.path == "/k2/status":
            return HttpReply(200, self._status(), {})
        route = self._routes.get(url.path)
        if route is None or method != "GET":
            status = 404 if route is None else 405
            return HttpReply(status, {"code": -1000, "msg": f"No such endpoint: {method} {url.path}"}, {})
        verdict = self._accounts.charge(address, route.weight, now_us / 1e6)
        used = {"X-MBX-USED-WEIGHT": str(verdict.used), "X-MBX-USED-WEIGHT-1M": str(verdict.used)}
        if verdict.status != 200:
            body = {"code": -1003, "msg": _too_much(verdict.status, now_us // 1_000 + verdict.retry_after_s * 1_000)}
            return HttpReply(verdict.status, body, used | {"Retry-After": str(verdict.retry_after_s)})
        try:
            parameters = _parameters(url.query, route.parameters)
            return HttpReply(200, route.answer(_Request(parameters, _time_unit(headers), now_us)), used)
        except RequestError as error:
            return HttpReply(error.status, error.body, used)

    def _symbol(self, request: _Request) -> SymbolHistory:
        text = request.parameters.get("symbol")
        if not text:
            raise RequestError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if not _SYMBOL.fullmatch(text):
            raise RequestError(
                -1100, "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,50}$'."
            )
        history = self._history.get(text)
        if history is None:
            raise RequestError(-1121, "Invalid symbol.")
        return history

    def _trades(self, request: _Request) -> object:
        trades = self._symbol(request).trades(request.number("fromId"), request.limit())
        return [_trade_body(trade, request) for trade in trades]

    def _aggregates(self, request: _Request) -> object:
        aggregates = self._symbol(request).aggregates(
            request.limit(), request.number("fromId"), request.time_us("startTime"), request.time_us("endTime")
        )
        return [_aggregate_body(aggregate, request) for aggregate in aggregates]

    def _exchange_info(self, request: _Request) -> object:
        wanted = self._history.symbols()
        if "symbol" in request.parameters:
            wanted = [self._listed(request.parameters["symbol"], request)]
        elif "symbols" in request.parameters:
            wanted = self._symbol_list(request.parameters["symbols"])
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6_000}
        return {
            "timezone": "UTC",
            "serverTime": request.printed(request.now_us),
            "rateLimits": [limit],
            "exchangeFilters": [],
            "symbols": [_symbol_body(symbol) for symbol in wanted],
        }

    def _symbol_list(self, text: str) -> list[str]:
        try:
            symbols = json.loads(text)
        except json.JSONDecodeError:
            symbols = None
        if not isinstance(symbols, list) or not symbols:
            raise RequestError(-1100, "Illegal characters found in parameter 'symbols'.")
        if any(not isinstance(symbol, str) or not self._lists(symbol) for symbol in symbols):
            raise RequestError(-1121, "Invalid symbol.")
        return symbols

    def _listed(self, symbol: str, request: _Request) -> str:
        return symbol if self._lists(symbol) else self._symbol(request).symbol

    def _lists(self, symbol: str) -> bool:
        known = self._history.get(symbol) is not None
        return known or (self._lists_any and _SYMBOL.fullmatch(symbol) is not None)


def _parameters(query: str, known: frozenset[str]) -> dict[str, str]:
    pairs = parse_qs(query, keep_blank_values=True)
    if any(len(values) > 1 for values in pairs.values()):
        raise RequestError(-1101, "Duplicate values for a parameter detected.")
    read = len(pairs.keys() & known)
    if read != len(pairs):
        text = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(pairs)}'."
        raise RequestError(-1104, text)
    return {name: values[0] for name, values in pairs.items()}


def _time_unit(headers: Mapping[str, str]) -> TimeUnit:
    micro = headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND"
    return TimeUnit.MICROSECOND if micro else TimeUnit.MILLISECOND


def _too_much(status: int, until_ms: int) -> str:
    if status == 429:
        return (
            "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
    return (
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans."
    )


def _trade_body(trade: Trade, request: _Request) -> dict[str, object]:
    return {
        "id": trade.trade_id,
        "price": decimal(trade.price),
        "qty": decimal(trade.quantity),
        "quoteQty": decimal(trade.price * trade.quantity // SCALE),
        "time": request.printed(trade.time_us),
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def _aggregate_body(aggregate: AggregateTrade, request: _Request) -> dict[str, object]:
    return {
        "a": aggregate.aggregate_id,
        "p": decimal(aggregate.price),
        "q": decimal(aggregate.quantity),
        "f": aggregate.first_id,
        "l": aggregate.last_id,
        "T": request.printed(aggregate.time_us),
        "m": aggregate.buyer_is_maker,
        "M": True,
    }


def _symbol_body(symbol: str) -> dict[str, object]:
    quote = next((name for name in ("USDT", "USDC", "BTC", "ETH", "BNB") if symbol.endswith(name)), symbol[-3:])
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol.removesuffix(quote),
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
    }
