"""One lake in PostgreSQL and on S3 with awkward trades in it, and the engines that read it.

The trades are made to tell engines apart: ties in time, missing sequences and times, numbers to the last place, quotes
and other scripts in texts, commits whose times overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyiceberg.io import load_file_io

from k2_core.records import TRADES
from k2_core.storage import file_properties
from k2_core.tables import open_catalog
from k2_query.duckdb_engine import DuckDBEngine
from k2_query.files import open_files
from k2_query.lake import Lake, LakeHead, LakeSnapshot
from k2_query.ordering import Order
from k2_query.params import to_us
from k2_query.segments import Window
from k2_query.trino_client import TrinoClient, TrinoServer
from k2_query.trino_engine import TrinoEngine
from support.query import BASE, Logged, Record, World, event_time, make_record, make_records, table_rows
from support.trino import USER, LocalTrino
from support.waiting import wait_until

NAMESPACE: Final = "contract"
ODD: Final = 'IT\'S "ODD" ?'
"""A symbol that would end a text of SQL, were it part of one."""
HUGE: Final = "HUGE"
"""A symbol whose sums have more digits than engines have."""
BLOCKS: Final = "BHP"
"""A symbol of which some prints were agreed off the market."""
FOREVER: Final = 2**62


def logged(records: Sequence[Record]) -> pa.Table:
    """Return records in the table's form."""
    return table_rows(Logged(record, "t", 0, at) for at, record in enumerate(records))  # type: ignore[arg-type]


def commits() -> list[list[Record]]:
    """Return the trades of each commit."""
    tie = BASE + timedelta(seconds=3)
    first = make_records("BTCUSDT", 1_000, 30, BASE, 400_000)
    first += make_records("ETHUSDT", 10, 5, BASE)
    late = make_records("BTCUSDT", 2_000, 20, BASE + timedelta(minutes=9, seconds=50), 1_000_000)  # across midnight
    awkward = [
        make_record("BTCUSDT", 3_000, tie, sequence=None, side=None),
        make_record("BTCUSDT", 3_001, tie, sequence=None),
        make_record("BTCUSDT", 3_002, tie, message_id="binance:spot:BTCUSDT:ä'\"\\", vendor_data={}),
        make_record("BTCUSDT", 3_002, tie, message_id="binance:spot:BTCUSDT:Z"),
        make_record("BTCUSDT", 3_003, tie, exchange_timestamp=None, receive_timestamp=tie + timedelta(microseconds=1)),
        make_record("BTCUSDT", 3_004, tie, price=Decimal("9999999999.99999999"), quantity=Decimal("0.00000001")),
        make_record("BTCUSDT", 3_005, tie, quantity=Decimal("99999999.00000001"), vendor_data={"k'": 'v"', "日": "本"}),
        make_record(ODD, 1, BASE, exchange="asx", market="cash", asset_class="equities"),
    ]
    awkward += prints(1, 20, BASE)
    awkward.append(make_record(BLOCKS, 30, BASE, vendor_data={"off_market": "true"}))  # which no coin's venue says
    early = make_records("BTCUSDT", 500, 10, BASE - timedelta(days=1, microseconds=1), 7)
    huge = [
        make_record(HUGE, at, BASE, price=Decimal("9999999999.99999999"), quantity=Decimal(99999999999999999999))
        for at in range(2)
    ]
    return [first, late, awkward + huge, early]


def prints(first: int, count: int, at: datetime) -> list[Record]:
    """Return trades in equities, each third of them off the market and at a price that a bar would show."""
    equity = {"exchange": "asx", "market": "cash", "asset_class": "equities"}
    off = {"price": Decimal("1000000000.00000000"), "vendor_data": {"venue": "X", "off_market": "true"}}
    return [
        make_record(
            BLOCKS,
            number,
            at + timedelta(seconds=number),
            **(
                equity
                | (
                    off
                    if number % 3 == 0
                    else {"price": Decimal(f"{30 + number}.00000000"), "vendor_data": {"venue": "T"}}
                )
            ),
        )
        for number in range(first, first + count)
    ]


@dataclass
class Contract:
    """A lake, followed.

    Args:
        world: Table and settings.
        records: Of each commit.
        snapshots: The snapshot of each commit, by its number among them.
        head: The newest.
        lake: Follows the table.
    """

    world: World
    records: list[list[Record]]
    snapshots: list[LakeSnapshot]
    head: LakeHead
    lake: Lake

    def upto(self, number: int) -> list[Record]:
        """Return what the first commits hold, the one of this number included."""
        return [record for records in self.records[: number + 1] for record in records]

    @property
    def newest(self) -> LakeSnapshot:
        """The snapshot with everything in it."""
        return self.snapshots[-1]

    @property
    def everything(self) -> list[Record]:
        """All trades of the newest snapshot."""
        return self.upto(len(self.records) - 1)


@contextmanager
def followed(world: World, records: list[list[Record]]) -> Iterator[Contract]:
    """Write trades to a world's table, a commit each, and follow it."""
    written = [world.write(logged(part), None) for part in records]
    lake = Lake(lambda: open_catalog(world.settings), world.namespace, TRADES)
    lake.start()
    try:
        wait_until(lambda: lake.peek() and lake.head(1).snapshot.id == written[-1], "the newest snapshot")
        head = lake.head(1)
        yield Contract(world, records, [lake.at(number, head) for number in written], head, lake)
    finally:
        lake.stop()


def duckdb_engine(world: World, cache: Path) -> DuckDBEngine:
    """Return DuckDB over a world's files, as the service has it."""
    settings = world.settings
    assert settings.warehouse is not None
    warehouse, properties = settings.warehouse, file_properties(settings)
    files = open_files(warehouse, lambda: load_file_io(properties, warehouse), cache, 1 << 30, lambda _: None)
    return DuckDBEngine(files, memory_bytes=128 << 20, threads=2, cursors=2)


def trino_engine(world: World, trino: LocalTrino, catalog: str | None = None) -> TrinoEngine:
    """Return Trino over a world's table, with a catalog of its own."""
    named = catalog or trino.catalog(world.settings)
    return TrinoEngine(TrinoClient(TrinoServer(trino.url, USER, named), connections=2), named, world.namespace)


def within(records: Sequence[Record], window: Window) -> list[Record]:
    """Return the records of a window in the order of trades."""
    found = [
        record
        for record in records
        if record["symbol"] == window.symbol and window.start_us <= to_us(event_time(record)) < window.end_us
    ]
    return sorted(found, key=place)


def place(record: Record) -> tuple[datetime, bool, int, bytes]:
    """Return what trades are ordered by."""
    return event_time(record), record["sequence"] is None, record["sequence"] or 0, record["message_id"].encode()


def first_ids(records: Sequence[Record], window: Window, order: Order, limit: int) -> list[str]:
    """Return the ids that the first rows of a window must have."""
    found = within(records, window)
    return [record["message_id"] for record in (found if order is Order.ASC else found[::-1])[:limit]]
