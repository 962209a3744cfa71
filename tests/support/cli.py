"""The command line run in the test's process, and state folders with a real table in them."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from k2_cli import main, pipelines
from k2_cli.environment import folder_settings
from k2_cli.folder import StateFolder
from k2_core.records import TRADES
from k2_core.state import PIPELINE_KEY
from k2_core.tables import load_table, open_catalog
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.commit import Owner, TableWriter
from k2_sink.files import FileWriter, sort_rows
from k2_sink.protocol import Claim, Span

TOPIC = TopicName("market.crypto.trades.binance")
TOPIC_ID = TopicId("topic-id")


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def k2(*arguments: object) -> Answer:
    """Run `k2 ARGUMENTS` in this process; what a shell would see of it."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main.main([str(argument) for argument in arguments])
    return Answer(code, out.getvalue(), err.getvalue())


class Lake:
    """A state folder whose table is written through the sink's own commit, without Kafka."""

    def __init__(self, root: Path) -> None:
        self.folder = StateFolder(root)
        self.folder.acquire()
        self.folder.release()
        self.pipeline = pipelines.resolve(None, ["BTCUSDT"])
        pipelines.write(self.pipeline, self.folder.pipeline_file)
        self._next = Offset(0)

    @property
    def table(self) -> Table:
        """The table as it is now, for what other tools do to it."""
        table = load_table(open_catalog(folder_settings(self.pipeline, self.folder)), "market", TRADES)
        assert table is not None
        return table

    @property
    def writer(self) -> TableWriter:
        """A sink's hand on the table."""
        catalog = open_catalog(folder_settings(self.pipeline, self.folder))
        return TableWriter(catalog, "market", TRADES, Owner(self.pipeline.uid, "cluster"))

    def commit(self, ids: list[int], *, skipped: int = 0) -> None:
        """One commit of trades with these ids; `skipped` offsets are taken without a row or a reason."""
        writer = self.writer
        assert writer.table.properties[PIPELINE_KEY] == self.pipeline.uid
        rows = pa.Table.from_pylist([_row(number, self._next + at) for at, number in enumerate(ids)], _SCHEMA)
        end = Offset(self._next + len(ids) + skipped)
        files = [
            FileWriter(writer.table, 3).write(group, f"{self._next}-{number}")
            for number, group in enumerate(sort_rows(rows))
        ]
        span = Span(self._next, end)
        writer.commit(Claim("cluster", {TOPIC: TOPIC_ID}, {(TOPIC, Partition(0)): span}, "batch"), files)
        self._next = end


_SCHEMA = TRADES.table_schema


def _row(number: int, offset: int) -> dict[str, Any]:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "message_id": f"binance:spot:BTCUSDT:{number}",
        "symbol": "BTCUSDT",
        "exchange": "binance",
        "market": "spot",
        "asset_class": "crypto",
        "trade_id": str(number),
        "sequence": number,
        "side": "buy",
        "price": Decimal(1),
        "quantity": Decimal(1),
        "exchange_timestamp": time,
        "receive_timestamp": time,
        "vendor_data": [],
        "event_time": time,
        "topic_id": TOPIC_ID,
        "kafka_partition": 0,
        "kafka_offset": offset,
    }
