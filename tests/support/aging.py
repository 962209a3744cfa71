"""A trades table with a commit for each of some days, from two partitions of the log, for tests of what leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, Self

import pyarrow as pa
from prometheus_client import CollectorRegistry
from pyiceberg.catalog import Catalog

from k2_cli.completeness import COLUMNS, Holdings, books
from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import load_table, open_catalog
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.aging import Aging
from k2_sink.commit import Committed, Owner, TableWriter
from k2_sink.files import FileWriter, sort_rows
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Turns
from k2_sink.protocol import Claim, Span
from support.lake import by_message_id, records_of
from support.records import Record, arrow_rows, make_trades

TOPIC: Final = TopicName("market.crypto.trades.binance")
FIRST_TOPIC: Final = TopicId("topic")
FIRST_DAY: Final = date(2026, 1, 5)
EVERY_S: Final = 3_600.0


def day(number: int) -> date:
    """Return a day, counted from the first."""
    return FIRST_DAY + timedelta(days=number)


def noon_s(number: int) -> float:
    """Return noon of a day, in seconds since 1970."""
    return datetime.combine(day(number), datetime.min.time(), UTC).timestamp() + 43_200


@dataclass
class Aged:
    """The table, and whoever takes rows out of it."""

    settings: ServiceSettings
    catalog: Catalog
    writer: TableWriter = field(init=False)
    ends: dict[int, int] = field(default_factory=dict)
    trades: list[Record] = field(default_factory=list)
    topic_id: TopicId = FIRST_TOPIC
    epoch: int = 0
    now_s: float = 0.0
    litter: set[str] = field(default_factory=set)
    """Files of tables that were in the same place before."""

    @classmethod
    @contextmanager
    def where(cls, settings: ServiceSettings) -> Iterator[Self]:
        """Open a catalog."""
        with closing(open_catalog(settings)) as catalog:
            yield cls(settings, catalog)

    def __post_init__(self) -> None:
        self.writer = self.another(self.catalog)

    @staticmethod
    def another(catalog: Catalog) -> TableWriter:
        """Return a writer of the same table, which does not wait."""
        return TableWriter(catalog, "market", TRADES, Owner("uid", "cluster"), sleep=lambda _: None)

    def commit(self, number: int, symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"), partition: int = 0) -> None:
        """Commit forty trades of a day, from one partition."""
        start = datetime.combine(day(number), datetime.min.time(), UTC) + timedelta(hours=9)
        trades = make_trades(40, symbols=symbols, seed=number, first_id=1 + 1_000 * len(self.trades), start=start)
        self.commit_rows(trades, [partition] * len(trades))

    def commit_rows(self, trades: list[Record], partitions: Sequence[int]) -> None:
        """Commit trades, each from the partition that is said."""
        begun, offsets = dict(self.ends), []
        for partition in partitions:
            offsets.append(self.ends.get(partition, 0))
            self.ends[partition] = offsets[-1] + 1
        rows = arrow_rows(trades)
        added = [
            rows.column("exchange_timestamp"),
            pa.array([self.topic_id] * len(trades)),
            pa.array(partitions, pa.int32()),
            pa.array(offsets, pa.int64()),
        ]
        table = pa.Table.from_arrays([*rows.columns, *added], schema=TRADES.table_schema)
        groups = enumerate(sort_rows(table))
        name = f"{self.table_uuid}-{len(self.trades)}"
        files = [FileWriter(self.writer.table, 3).write(group, f"{name}-{at}") for at, group in groups]
        spans = {
            (TOPIC, Partition(one)): Span(Offset(begun.get(one, 0)), Offset(self.ends[one])) for one in set(partitions)
        }
        claim = Claim("cluster", {TOPIC: self.topic_id}, spans, name, self.epoch)
        assert isinstance(self.writer.commit(claim, files), Committed)
        self.trades += trades

    def aging(self, keep_days: int, files: int = 500, writer: TableWriter | None = None) -> Aging:
        """Return one more that looks; it is due at once."""
        return Aging(
            writer or self.writer, keep_days, SinkMetrics(CollectorRegistry()), self.turns(), lambda: self.now_s, files
        )

    @property
    def table_uuid(self) -> str:
        """Names the table, also among others that are in its place before or after it."""
        return str(self.writer.table.metadata.table_uuid)

    def turns(self) -> Turns:
        """Return turns that are due at once."""
        turns = Turns(EVERY_S, lambda: self.now_s)
        self.now_s += EVERY_S
        return turns

    def state(self) -> CommitState:
        """Return the state of the head."""
        return self.writer.load()[1]

    def held(self) -> dict[str, Record]:
        """Return the table's records by id, having checked the books of every snapshot that it lists."""
        table = load_table(self.catalog, "market", TRADES)
        assert table is not None
        for snapshot in table.metadata.snapshots:
            assert snapshot.summary is not None
            holdings = Holdings()
            holdings.add(table.scan(snapshot_id=snapshot.snapshot_id, selected_fields=COLUMNS).to_arrow())
            account = books(holdings, CommitState.parse(snapshot.summary.additional_properties[STATE_KEY]))
            assert account.balanced, (snapshot.summary, account)
        return by_message_id(records_of(table.scan().to_arrow().cast(TRADES.table_schema)))

    def since(self, number: int) -> dict[str, Record]:
        """Return what was committed of a day and all later ones, by id."""
        return {one["message_id"]: one for one in self.trades if one["exchange_timestamp"].date() >= day(number)}
