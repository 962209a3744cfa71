"""Bytes a trade: a real capture as one sorted file with every column of the table, beside pyarrow's defaults.

The capture's trades are parsed by the ingest's own venue parser and encoded as they travel, so the rows are the
table's. Captures are those of the folder that K2_TEST_DATA names (default: captures beside the project).
"""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, at_most
from workload import TOPIC, Progress

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from k2_core.codec import BatchDecoder
from k2_core.errors import SetupError
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.types import Offset, Partition, Symbol, TopicId
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.trade import Trade
from k2_ingest.venues import binance
from k2_sink.batch import Batch, Chunk
from k2_sink.dedup import SeenIds
from k2_sink.files import parquet_options, sort_rows
from support.captures import captures_folder

LEVELS = (3, 9)


def run(progress: Progress) -> list[Figure]:
    """Read the captures, and write their trades each way."""
    folder = captures_folder("binance-ws")
    files = sorted(folder.glob("*.gz"))
    if not files:
        raise SetupError(f"captures: found none in {folder}, expected *.gz; set K2_TEST_DATA")
    rows = pa.concat_tables([group.rows for group in sort_rows(_table(files))]).combine_chunks()
    progress(f"{rows.num_rows:,} trades of {len(files)} captures")
    baseline = _size(rows, {"compression": "zstd"}) / rows.num_rows
    figures = []
    for level in LEVELS:
        size = _size(rows, {**parquet_options(rows.schema, level), "row_group_size": 250_000}) / rows.num_rows
        figures.append(at_most("storage", f"bytes a trade, zstd level {level}", size, "bytes", 12, baseline))
    return figures


def _size(rows: pa.Table, options: dict[str, object]) -> int:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, **options)
    return buffer.tell()


def _table(files: list[Path]) -> pa.Table:
    """Return the captures' trades in the table's Arrow form, as if they had passed through the pipeline."""
    symbols = sorted({Symbol(path.name.split("_")[0].upper()) for path in files})
    parser = binance.Parser(symbols, binance.TimeUnit.MILLISECOND)
    encoders = {symbol: TradeEncoder(Identity("binance", "spot", "crypto", symbol)) for symbol in symbols}
    values: list[bytes | None] = []
    for path in files:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                received_ns, _, payload = line.partition(b" ")
                if b"@trade" in payload:
                    trade = parser.parse(payload)
                    assert isinstance(trade, Trade)
                    values.append(encoders[trade.symbol].encode(trade, int(received_ns) // 1000))
    count = len(values)
    batch = Batch(TRADES, SeenIds())
    batch.start_at((TOPIC, Partition(0)), Offset(0))
    chunk = Chunk(TOPIC, values, np.zeros(count, dtype=np.int64), np.arange(count, dtype=np.int64))
    batch.add(
        chunk, BatchDecoder(TRADES, PackagedSchemas().by_id), TopicId("AAAAAAAAAAAAAAAAAAAAAA"), lambda rows: rows
    )
    return batch.table()
