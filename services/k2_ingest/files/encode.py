"""Rows of a dataset to Kafka values, in the byte layout that `k2_ingest.encode` owns.

What is the same for all rows is encoded once, and what the vendor said once for each distinct text. Called by
`loading`. Tested against the batch decoder. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from k2_core.codec import wire_prefix
from k2_core.records import TRADES
from k2_core.types import Symbol
from k2_ingest.encode import ABSENT, END_OF_MAP, LENGTHS, PRESENT, avro_long, avro_string, check_layout
from k2_ingest.files.asx import Parsed, Vendor

DIGEST_KEY: Final = "file"
"""Key in `vendor_data` of the digest of the file that a row was read from: which version of the dataset it is of."""
_MEMO_LIMIT: Final = 8_192  # entries; texts of a vendor are codes, and prices where it errs


@dataclass(frozen=True, slots=True)
class Dataset:
    """What all rows of one file have in common.

    Args:
        name: `source.file` of the pipeline: with the row number the identity of each row, and the space of its ids.
        exchange: Such as `asx`.
        asset_class: Such as `equities`.
        symbol: Whose trades they are.
    """

    name: str
    exchange: str
    asset_class: str
    symbol: Symbol


class RowEncoder:
    """Encodes the rows of one version of a dataset.

    Args:
        dataset: Whose rows.
        digest: Of the file, see `DIGEST_KEY`.
        schema_id: The id on the wire; a registry's, or the packaged one.

    Raises:
        SchemaError: The packaged schema is not the one that is written here.
    """

    def __init__(self, dataset: Dataset, digest: str, schema_id: int = TRADES.packaged_id) -> None:
        check_layout(TRADES.avro)
        self._prefix = wire_prefix(schema_id)
        self._id_prefix = f"{dataset.name}:".encode()
        # The dataset is the market: what counts the ids.
        constants = (dataset.symbol, dataset.exchange, dataset.name, dataset.asset_class)
        self._constants = b"".join(map(avro_string, constants))
        self._digest = avro_string(DIGEST_KEY) + avro_string(digest)
        self._maps: dict[Vendor, bytes] = {}

    def encode(self, parsed: Parsed, receive_us: int) -> list[bytes]:
        """Return the Kafka values of rows, in their order; the row number becomes `trade_id` and `sequence`.

        Args:
            parsed: Rows of the dataset.
            receive_us: When this pipeline read them, UTC microseconds.
        """
        prefix, id_prefix, constants = self._prefix, self._id_prefix, self._constants
        received, maps = avro_long(receive_us), self._maps
        values: list[bytes] = []
        columns = (parsed.rows, parsed.prices, parsed.quantities, parsed.exchange_us, parsed.vendor)
        for row, price, quantity, exchange_us, vendor in zip(*columns, strict=True):
            id_text = b"%d" % row
            message_id = id_prefix + id_text
            # Two's complement in as few bytes as hold the number and its sign.
            price_size = (price.bit_length() + 8) >> 3
            quantity_size = (quantity.bit_length() + 8) >> 3
            values.append(
                b"".join(
                    (
                        prefix,
                        LENGTHS[len(message_id)],
                        message_id,
                        constants,
                        LENGTHS[len(id_text)],
                        id_text,
                        PRESENT,
                        avro_long(row),
                        ABSENT,  # who was the aggressor the vendor does not say
                        LENGTHS[price_size],
                        price.to_bytes(price_size, "big"),
                        LENGTHS[quantity_size],
                        quantity.to_bytes(quantity_size, "big"),
                        PRESENT,
                        avro_long(exchange_us),
                        received,
                        maps.get(vendor) or self._map(vendor),
                    )
                )
            )
        return values

    def _map(self, vendor: Vendor) -> bytes:
        entries = [avro_string(key) + avro_string(text) for key, text in vendor]
        encoded = LENGTHS[len(entries) + 1] + b"".join((*entries, self._digest)) + END_OF_MAP
        if len(self._maps) >= _MEMO_LIMIT:
            self._maps.clear()
        self._maps[vendor] = encoded
        return encoded
