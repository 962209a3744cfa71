"""The exchange's wire forms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from k2_ingest.exchange.messages import (
    CapturedEvent,
    SyntheticEvent,
    TimeUnit,
    Trade,
    Variant,
    decimal,
    envelope,
    scaled,
    server_shutdown,
    text_frame,
)

TRADE = Trade("BTCUSDT", 12345, 6_183_763_000_000, 2_000_000, 1_672_515_782_136_789, True)
RAW = Variant(combined=False, unit=TimeUnit.MILLISECOND)
COMBINED = Variant(combined=True, unit=TimeUnit.MILLISECOND)


def test_a_trade_has_the_documented_form() -> None:
    assert SyntheticEvent("btcusdt@trade", TRADE, order_ids=False).payload(TimeUnit.MILLISECOND) == (
        b'{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":12345,"p":"61837.63000000","q":"0.02000000",'
        b'"T":1672515782136,"m":true,"M":true}'
    )


def test_a_trade_in_microseconds_keeps_them_all() -> None:
    body = json.loads(SyntheticEvent("btcusdt@trade", TRADE, order_ids=False).payload(TimeUnit.MICROSECOND))
    assert (body["E"], body["T"]) == (TRADE.time_us, TRADE.time_us)


def test_order_ids_come_before_the_trade_time() -> None:
    body = json.loads(SyntheticEvent("btcusdt@trade", TRADE, order_ids=True).payload(TimeUnit.MILLISECOND))
    assert list(body) == ["e", "E", "s", "t", "p", "q", "b", "a", "T", "m", "M"]


def test_a_captured_payload_changes_only_in_its_times() -> None:
    data = b'{"e":"trade","E":1723161255343,"s":"X","t":1723161255343,"p":"1","T":1723161255342,"m":true}'
    event = CapturedEvent("x@trade", None, data, 1)
    assert event.payload(TimeUnit.MILLISECOND) == data
    micro = json.loads(event.payload(TimeUnit.MICROSECOND))
    assert micro == json.loads(data) | {"E": 1723161255343000, "T": 1723161255342000}


@given(st.integers(min_value=0, max_value=10**18))
def test_scaled_reads_what_decimal_prints(number: int) -> None:
    assert scaled(decimal(number)) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 10**8), ("0.00000001", 1), ("0.123456789", 12_345_678)],
    ids=["whole", "smallest", "over-precise-is-cut"],
)
def test_scaled_reads_plain_decimals(text: str, number: int) -> None:
    assert scaled(text) == number


@pytest.mark.parametrize("text", ["NaN", "", "1e5", "1.x", "-1", "."])
def test_scaled_refuses_everything_else(text: str) -> None:
    with pytest.raises(ValueError, match="expected a plain decimal"):
        scaled(text)


def test_the_envelope_names_the_stream() -> None:
    assert envelope("a@trade", b"{}", COMBINED) == b'{"stream":"a@trade","data":{}}'


def test_raw_and_streamless_messages_have_no_envelope() -> None:
    assert envelope("a@trade", b"{}", RAW) == b"{}"
    assert envelope(None, b"{bad", COMBINED) == b"{bad"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_what_websockets_would_send(size: int) -> None:
    payload = b"x" * size
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_the_shutdown_notice_has_the_documented_forms() -> None:
    assert json.loads(server_shutdown(1_770_123_456_789, RAW)) == {"e": "serverShutdown", "E": 1_770_123_456_789}
    assert json.loads(server_shutdown(1, Variant(combined=True, unit=TimeUnit.MICROSECOND))) == {
        "stream": "!serverShutdown",
        "data": {"e": "serverShutdown", "E": 1_000},
    }
