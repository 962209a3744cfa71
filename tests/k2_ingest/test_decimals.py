"""Printed numbers: read exactly, or refused with a reason."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.errors import RecordError
from k2_ingest.decimals import PRICE_LIMIT, QUANTITY_LIMIT, scaled


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 10**8),
        ("1.5", 150_000_000),
        ("1.500000000000", 150_000_000),
        (".00000001", 1),
        ("007.00000000", 7 * 10**8),
    ],
)
def test_other_spellings_of_a_number_are_equal_in_value(text: str, value: int) -> None:
    assert scaled("price", text, PRICE_LIMIT) == value


@given(st.integers(min_value=1, max_value=10**28 - 1))
def test_a_number_is_read_exactly(number: int) -> None:
    text = f"{Decimal(number).scaleb(-8):.8f}" if number < 10**20 else f"{number // 10**8}.{number % 10**8:08d}"
    assert scaled("quantity", text, QUANTITY_LIMIT) == number


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-1", "price_not_positive"),
        ("0.0", "price_not_positive"),
        ("nan", "price_malformed"),
        ("", "price_malformed"),
        ("1.000000001", "price_precision"),
        ("10000000000", "price_precision"),
    ],
)
def test_what_is_no_price_is_refused(text: str, why: str) -> None:
    with pytest.raises(RecordError) as caught:
        scaled("price", text, PRICE_LIMIT)
    assert caught.value.reason == why
    assert repr(text) in caught.value.detail
