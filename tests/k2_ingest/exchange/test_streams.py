"""Subscriptions and control messages, by the exchange's documentation."""

from __future__ import annotations

import json

import pytest

from k2_ingest.exchange.messages import TimeUnit, Variant
from k2_ingest.exchange.streams import PathError, Subscriptions


def open_at(target: str, limit: int = 1_024) -> Subscriptions:
    return Subscriptions.from_target(target, limit)


def ask(subscriptions: Subscriptions, **request: object) -> object:
    return json.loads(subscriptions.handle(json.dumps(request).encode()))


@pytest.mark.parametrize(
    ("target", "combined", "streams"),
    [
        ("/stream?streams=btcusdt@trade/ethusdt@trade", True, ["btcusdt@trade", "ethusdt@trade"]),
        ("/ws/btcusdt@trade", False, ["btcusdt@trade"]),
        ("/ws/btcusdt@trade/ethusdt@trade", False, ["btcusdt@trade", "ethusdt@trade"]),
        ("/ws", False, []),
        ("/ws/", False, []),
        ("/stream", True, []),
    ],
    ids=["combined", "raw", "raw-two", "bare", "bare-slash", "combined-bare"],
)
def test_a_path_says_form_and_streams(target: str, combined: bool, streams: list[str]) -> None:
    opened = open_at(target)
    assert opened.variant == Variant(combined, TimeUnit.MILLISECOND)
    assert list(opened.names) == streams


@pytest.mark.parametrize("unit", ["MICROSECOND", "microsecond"])
def test_a_path_says_the_time_unit(unit: str) -> None:
    assert open_at(f"/stream?streams=a@trade&timeUnit={unit}").variant.unit is TimeUnit.MICROSECOND


@pytest.mark.parametrize("target", ["/", "/wsx", "/api", "/ws/a?timeUnit=SECOND"])
def test_other_paths_are_refused(target: str) -> None:
    with pytest.raises(PathError, match="expected"):
        open_at(target)


def test_a_path_with_too_many_streams_is_refused() -> None:
    with pytest.raises(PathError, match="2 streams a connection at most"):
        open_at("/stream?streams=a@trade/b@trade/c@trade", limit=2)


def test_subscribe_list_and_unsubscribe() -> None:
    opened = open_at("/ws")
    assert ask(opened, method="SUBSCRIBE", params=["a@trade", "b@trade"], id=1) == {"result": None, "id": 1}
    assert ask(opened, method="UNSUBSCRIBE", params=["a@trade", "never@trade"], id="x") == {"result": None, "id": "x"}
    assert ask(opened, method="LIST_SUBSCRIPTIONS", id=None) == {"result": ["b@trade"], "id": None}


def test_properties_are_set_and_read() -> None:
    opened = open_at("/ws")
    assert ask(opened, method="SET_PROPERTY", params=["combined", True], id=5) == {"result": None, "id": 5}
    assert ask(opened, method="GET_PROPERTY", params=["combined"], id=2) == {"result": True, "id": 2}
    assert opened.variant.combined


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"method": "GET_PROPERTY", "params": ["other"], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "expected Boolean"),
        ({"method": "SET_PROPERTY", "params": ["combined"], "id": 1}, 1, "expected Boolean"),
        ({"method": "SET_PROPERTY", "params": [1, True], "id": 1}, 2, "property name must be a string"),
        ({"method": "GET_PROPERTY", "params": [], "id": 1}, 2, "property name must be a string"),
        ({"method": "GET_PROPERTY", "params": ["combined", 1], "id": 1}, 2, "too many parameters"),
        ({"method": "subscribe", "id": 1}, 2, "unknown variant subscribe"),
        ({"id": 1}, 2, "missing field `method`"),
        ([1], 2, "missing field `method`"),
        ({"method": "LIST_SUBSCRIPTIONS", "id": 1.5}, 2, "request ID must be"),
        ({"method": "LIST_SUBSCRIPTIONS", "id": True}, 2, "request ID must be"),
        ({"method": "LIST_SUBSCRIPTIONS", "id": 2**63}, 2, "request ID must be"),
        ({"method": "LIST_SUBSCRIPTIONS", "id": "x" * 37}, 2, "request ID must be"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "stream names must be strings"),
        ({"method": "SUBSCRIBE", "params": ["a", "b", "c"], "id": 1}, 2, "too many parameters"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict | list) else None,
)
def test_bad_requests_get_the_documented_codes(request_: object, code: int, words: str) -> None:
    opened = open_at("/ws/kept@trade", limit=3)
    reply = json.loads(opened.handle(json.dumps(request_).encode()))
    assert reply["code"] == code
    assert words in reply["msg"]
    assert list(opened.names) == ["kept@trade"]


def test_a_single_parameter_needs_no_list() -> None:
    opened = open_at("/ws")
    ask(opened, method="SUBSCRIBE", params="a@trade", id=1)
    assert list(opened.names) == ["a@trade"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"{", "line 1 column 2"),
        (b'{"a":\n,', "line 2 column 1"),
        (b"\xff", "line 1 column 1"),
        (b"NaN", "line 1 column 1"),
    ],
    ids=["cut", "second-line", "not-utf-8", "not-strict"],
)
def test_bad_json_is_located(text: bytes, place: str) -> None:
    assert json.loads(open_at("/ws").handle(text)) == {"code": 3, "msg": f"Invalid JSON: expected value at {place}"}
