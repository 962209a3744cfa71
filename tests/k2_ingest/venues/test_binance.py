"""Binance's messages, good and bad."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import RecordError
from k2_core.types import Symbol
from k2_ingest.trade import Trade
from k2_ingest.venues.binance import Ignored, Notice, Parser, TimeUnit, stream_path

BTC = Symbol("BTCUSDT")
DATA: dict[str, Any] = {
    "e": "trade",
    "E": 1723161255343,
    "s": "BTCUSDT",
    "t": 3735683259,
    "p": "61837.63000000",
    "q": "0.02000000",
    "T": 1723161255342,
    "m": True,
    "M": True,
}
BOOK_TICKER = {"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "1", "A": "1"}
EXPECTED = Trade(BTC, 3735683259, True, 6_183_763_000_000, 2_000_000, 1_723_161_255_342_000, (("E", 1723161255343),))


@pytest.fixture
def parser() -> Parser:
    return Parser([BTC, Symbol("ETHUSDT")], TimeUnit.MILLISECOND)


def combined(data: object, stream: str = "btcusdt@trade") -> bytes:
    return json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode()


def raw(data: object) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def reason(parser: Parser, payload: bytes) -> str:
    with pytest.raises(RecordError) as refused:
        parser.parse(payload)
    assert refused.value.detail
    return refused.value.reason


@pytest.mark.parametrize("wrap", [combined, raw], ids=["combined", "raw"])
def test_both_envelopes_give_the_same_trade(parser: Parser, wrap: Any) -> None:
    assert parser.parse(wrap(DATA)) == EXPECTED


def test_a_buyer_that_is_maker_was_sold_to(parser: Parser) -> None:
    bought = parser.parse(combined(DATA | {"m": False}))
    assert isinstance(bought, Trade)
    assert not bought.sold


def test_order_ids_are_kept_where_they_are(parser: Parser) -> None:
    trade = parser.parse(combined(DATA | {"b": 88, "a": 50}))
    assert isinstance(trade, Trade)
    assert trade.vendor == (("E", 1723161255343), ("b", 88), ("a", 50))


def test_microseconds_are_what_was_asked_for() -> None:
    data = DATA | {"E": 1723161255343123, "T": 1723161255342123}
    trade = Parser([BTC], TimeUnit.MICROSECOND).parse(combined(data))
    assert isinstance(trade, Trade)
    assert trade.exchange_us == 1_723_161_255_342_123


@pytest.mark.parametrize(
    ("unit", "time"),
    [(TimeUnit.MILLISECOND, 1723161255342123), (TimeUnit.MICROSECOND, 1723161255342), (TimeUnit.MILLISECOND, 0)],
    ids=["us-as-ms", "ms-as-us", "zero"],
)
def test_a_time_in_another_unit_is_refused_not_guessed(unit: TimeUnit, time: int) -> None:
    assert reason(Parser([BTC], unit), combined(DATA | {"T": time})) == "exchange_timestamp_range"


def test_keys_in_another_order_are_no_fault(parser: Parser) -> None:
    backwards = dict(reversed(DATA.items()))
    assert parser.parse(raw({"data": backwards, "stream": "btcusdt@trade"})) == EXPECTED
    assert parser.parse(raw(backwards)) == EXPECTED


def test_spaces_are_no_fault(parser: Parser) -> None:
    assert parser.parse(json.dumps({"stream": "btcusdt@trade", "data": DATA}, indent=1).encode()) == EXPECTED


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("p", "-1.00000000", "price_not_positive"),
        ("p", "0.00000000", "price_not_positive"),
        ("p", "0", "price_not_positive"),
        ("p", "NaN", "price_malformed"),
        ("p", "Infinity", "price_malformed"),
        ("p", "1e5", "price_malformed"),
        ("p", "", "price_malformed"),
        ("p", ".", "price_malformed"),
        ("p", "+1.00000000", "price_malformed"),
        ("p", "1_0.00000000", "price_malformed"),
        ("p", "²1.00000000", "price_malformed"),
        ("p", "1.000000001", "price_precision"),
        ("p", "10000000000.00000000", "price_precision"),
        ("p", "1" * 5_000 + ".00000000", "price_precision"),
        ("q", "-0.5", "quantity_not_positive"),
        ("q", "0.00000000", "quantity_not_positive"),
        ("q", "nan", "quantity_malformed"),
        ("q", "0.000000001", "quantity_precision"),
        ("q", "1" + "0" * 20 + ".00000000", "quantity_precision"),
    ],
)
def test_numbers_that_are_none_are_refused(parser: Parser, field: str, text: str, why: str) -> None:
    assert reason(parser, combined(DATA | {field: text})) == why


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"stream":"btcusdt@trade","data":', "malformed_json"),
        (b'{"stream":"btcusdt@trade","data":{"e":"trade","p":NaN}}', "malformed_json"),
        (b"", "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"stream":"btcusdt@trade","x":' + b"[" * 100_000, "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[1,2]", "malformed_message"),
        (b"3", "malformed_message"),
        (b'{"stream":"btcusdt@trade","data":[]}', "malformed_trade"),
        (combined([], "nonsense"), "unknown_stream"),
        (b'{"stream":"btcusdt@trade"}', "malformed_trade"),
        (b'{"stream":"btcusdt@trade","data":{}}', "malformed_trade"),
        (combined(DATA | {"t": "1"}), "malformed_trade"),
        (combined(DATA | {"t": -1}), "malformed_trade"),
        (combined(DATA | {"t": 2**63}), "malformed_trade"),
        (combined(DATA | {"E": -1}), "malformed_trade"),
        (combined(DATA | {"p": 1.5}), "malformed_trade"),
        (combined(DATA | {"m": 1}), "malformed_trade"),
        (combined({key: value for key, value in DATA.items() if key != "q"}), "malformed_trade"),
        (combined(DATA | {"e": "aggTrade"}), "malformed_trade"),
        (combined(DATA, "dogeusdt@trade"), "unknown_stream"),
        (combined(DATA, "nonsense"), "unknown_stream"),
        (raw(DATA | {"s": "DOGEUSDT"}), "unknown_stream"),
        (raw({"stream": ["x"], "data": {"e": []}}), "unknown_stream"),
        (raw({"e": "somethingNew"}), "unknown_stream"),
        (combined(DATA, "ethusdt@trade"), "stream_mismatch"),
    ],
)
def test_what_is_no_trade_is_refused_with_a_reason(parser: Parser, payload: bytes, why: str) -> None:
    assert reason(parser, payload) == why


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (
            combined({"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "1", "A": "1"}, "btcusdt@bookTicker"),
            "bookTicker",
        ),
        (raw({"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "1", "A": "1"}), "bookTicker"),
        (combined({"e": "depthUpdate"}, "btcusdt@depth@100ms"), "depth"),
        (combined({"lastUpdateId": 1}, "btcusdt@depth20"), "depth"),
        (combined({"e": "kline"}, "btcusdt@kline_1m"), "kline"),
        (combined({"e": "aggTrade"}, "btcusdt@aggTrade"), "aggTrade"),
        (raw({"e": "aggTrade", "s": "BTCUSDT"}), "aggTrade"),
        (combined([{"e": "24hrTicker"}], "!ticker@arr"), "arr"),
    ],
)
def test_other_documented_streams_are_ignored(parser: Parser, payload: bytes, kind: str) -> None:
    assert parser.parse(payload) == Ignored(kind)


@pytest.mark.parametrize(
    ("payload", "notice"),
    [
        (b'{"result":null,"id":1}', Notice.ACKNOWLEDGED),
        (b'{"code":2,"msg":"Invalid request: x"}', Notice.REFUSED),
        (b'{"error":{"code":2,"msg":"x"},"id":1}', Notice.REFUSED),
        (b'{"e":"serverShutdown","E":1770123456789}', Notice.SERVER_SHUTDOWN),
        (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', Notice.SERVER_SHUTDOWN),
    ],
    ids=["ack", "error", "new-error", "shutdown-raw", "shutdown-combined"],
)
def test_messages_about_the_connection_are_told_apart(parser: Parser, payload: bytes, notice: Notice) -> None:
    assert parser.parse(payload) is notice


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(payload: bytes) -> None:
    parser = Parser([BTC], TimeUnit.MILLISECOND)
    with suppress(RecordError):
        parser.parse(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*"esEtpqTmMba", "x"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(DATA)), JSON), st.booleans())
def test_no_json_breaks_the_parser(changes: dict[str, Any], wrapped: bool) -> None:
    parser = Parser([BTC], TimeUnit.MILLISECOND)
    with suppress(RecordError):
        parser.parse((combined if wrapped else raw)(DATA | changes))


def test_the_subscription_is_in_the_path() -> None:
    symbols = [BTC, Symbol("ETHUSDT")]
    assert stream_path(symbols, TimeUnit.MILLISECOND) == "/stream?streams=btcusdt@trade/ethusdt@trade"
    assert stream_path([BTC], TimeUnit.MICROSECOND) == "/stream?streams=btcusdt@trade&timeUnit=MICROSECOND"
