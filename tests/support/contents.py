"""A log and a table as they are, record by record with content, for tests that compare the two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from support.ingest import read_topic
from support.lake import table_rows

PARTITION, OFFSET = "kafka_partition", "kafka_offset"
_ORDER: Final = [(PARTITION, "ascending"), (OFFSET, "ascending")]


def log_contents(bootstrap_servers: str, topic: str) -> pa.Table:
    """Return every record of the log as it is now, with its position, in the order of positions."""
    messages = read_topic(bootstrap_servers, topic)
    decoded = BatchDecoder(TRADES, PackagedSchemas().by_id).decode([message.value() for message in messages])
    assert decoded.rejected == ()
    partitions = pa.array([one.partition() for one in messages], pa.int32())
    offsets = pa.array([one.offset() for one in messages], pa.int64())
    return decoded.rows.append_column(PARTITION, partitions).append_column(OFFSET, offsets).sort_by(_ORDER)


def log_ends(log: pa.Table) -> Mapping[int, int]:
    """Return the end of each partition that has records."""
    newest = log.group_by(PARTITION).aggregate([(OFFSET, "max")]).to_pylist()
    return {one[PARTITION]: one[f"{OFFSET}_max"] + 1 for one in newest}


def table_contents(where: Path | ServiceSettings, namespace: str, ends: Mapping[int, int]) -> pa.Table:
    """Return the table's rows from before these ends of partitions, in the order of the positions they came from."""
    rows = table_rows(where, namespace).select([*TRADES.wire_schema.names, PARTITION, OFFSET])
    limit = pa.array([ends.get(number, 0) for number in rows.column(PARTITION).to_pylist()])
    return rows.filter(pc.less(rows.column(OFFSET), limit)).sort_by(_ORDER)


def check_same(table: pa.Table, log: pa.Table) -> None:
    """Check that a table's rows are the log's records, each once, with the same content from the same position."""
    assert table.num_rows == log.num_rows, f"found {table.num_rows} rows, expected {log.num_rows} records"
    for name in log.schema.names:
        assert table.column(name).combine_chunks().equals(log.column(name).combine_chunks()), name
