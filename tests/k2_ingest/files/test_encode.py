"""Rows of files as Kafka values, read back by the batch decoder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_core.codec import BatchDecoder
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import Symbol
from k2_ingest.files import encode
from k2_ingest.files.asx import Parsed, Vendor
from k2_ingest.files.encode import Dataset, RowEncoder

DATASET = Dataset("asx.bhp-10", "asx", "equities", Symbol("BHP"))
RECEIVED = datetime(2026, 11, 27, tzinfo=UTC)
RECEIVED_US = int(RECEIVED.timestamp()) * 1_000_000
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters=","), max_size=300)
VENDORS = st.lists(
    st.tuples(st.sampled_from(["qualifier", "venue", "buyer_id"]), TEXTS), unique_by=lambda pair: pair[0]
)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**62),
            st.integers(1, 10**18 - 1),
            st.integers(1, 10**28 - 1),
            st.integers(631_152_000_000_000, 4_102_444_799_999_999),
            VENDORS.map(tuple),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_row_is_read_back_as_it_was(rows: list[tuple[int, int, int, int, Vendor]]) -> None:
    parsed = Parsed(*map(list, zip(*rows, strict=True)))
    decoded = BatchDecoder(TRADES, PackagedSchemas().by_id).decode(
        RowEncoder(DATASET, "d1").encode(parsed, RECEIVED_US)
    )
    assert decoded.rejected == ()
    assert [
        {
            "message_id": f"asx.bhp-10:{row}",
            "symbol": "BHP",
            "exchange": "asx",
            "market": "asx.bhp-10",
            "asset_class": "equities",
            "trade_id": str(row),
            "sequence": row,
            "side": None,
            "price": Decimal(price).scaleb(-8),
            "quantity": Decimal(quantity) / 10**8,
            "exchange_timestamp": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at),
            "receive_timestamp": RECEIVED,
            "vendor_data": [*vendor, ("file", "d1")],
        }
        for row, price, quantity, at, vendor in rows
    ] == decoded.rows.to_pylist()


def test_texts_that_never_repeat_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_MEMO_LIMIT", 2)
    encoder = RowEncoder(DATASET, "d1")
    vendors: list[Vendor] = [(("buyer_id", str(number)),) for number in (1, 2, 3, 1)]
    values = encoder.encode(Parsed([1, 2, 3, 4], [1] * 4, [1] * 4, [10**15] * 4, vendors), RECEIVED_US)
    rows = BatchDecoder(TRADES, PackagedSchemas().by_id).decode(values).rows
    assert [dict(row)["buyer_id"] for row in rows.column("vendor_data").to_pylist()] == ["1", "2", "3", "1"]
    assert len(encoder._maps) <= 2
