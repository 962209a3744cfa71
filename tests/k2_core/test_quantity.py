"""Kubernetes quantities: what each suffix is worth, and what is no quantity."""

from __future__ import annotations

from decimal import Decimal

import pytest

from k2_core.quantity import quantity_value


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("0", "0"),
        ("2", "2"),
        ("0.5", "0.5"),
        ("500m", "0.5"),
        ("1500u", "0.0015"),
        ("3n", "0.000000003"),
        ("1k", "1000"),
        ("1.5M", "1500000"),
        ("1G", "1000000000"),
        ("2T", "2e12"),
        ("1P", "1e15"),
        ("1E", "1e18"),
        ("1Ki", "1024"),
        ("512Mi", "536870912"),
        ("1.5Gi", "1610612736"),
        ("1Ti", "1099511627776"),
        ("1Pi", str(2**50)),
        ("1Ei", str(2**60)),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("25e-1", "2.5"),
    ],
)
def test_what_it_amounts_to(quantity: str, value: str) -> None:
    assert quantity_value(quantity) == Decimal(value)


@pytest.mark.parametrize(
    "quantity", ["", "m", "1 Gi", "1GB", "-1", "1Mi\n", "0x10", "1e", "1.", ".5", "1K", "1mi", "٣"]
)
def test_what_is_none(quantity: str) -> None:
    with pytest.raises(ValueError, match="expected a Kubernetes quantity such as 500m or 1Gi"):
        quantity_value(quantity)
