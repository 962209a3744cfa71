"""A table and a log for tests of the query service: real Iceberg, real Kafka, and the records that went in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from k2_core.kafka import KafkaAdmin
from k2_core.raw_files import RawFiles, Section, raw_rows
from k2_core.records import TRADES
from k2_core.spec import Pipeline, parse_pipeline
from k2_core.state import STATE_KEY, CommitState, LedgerEntry, PartitionState
from k2_core.tables import ensure_table, open_catalog
from k2_core.topics import partition_of
from k2_core.types import Offset, Partition, Symbol, TopicId, TopicName
from k2_query.settings import QuerySettings
from support.records import encode

BASE: Final = datetime(2024, 8, 8, 23, 50, tzinfo=UTC)
"""Event time of the first record of a world: five minutes before midnight."""
_DELIVERY_TIMEOUT_S: Final = 20.0

Record = dict[str, Any]


def make_record(symbol: str, trade_id: int, at: datetime, **changes: Any) -> Record:
    """A trade as the venue's parser makes one; price and quantity vary with the id."""
    record = {
        "message_id": f"binance:spot:{symbol}:{trade_id}",
        "symbol": symbol,
        "exchange": "binance",
        "market": "spot",
        "asset_class": "crypto",
        "trade_id": str(trade_id),
        "sequence": trade_id,
        "side": "buy" if trade_id % 2 else "sell",
        "price": Decimal(60_000_00000000 + trade_id * 12_345_678 % 1_000_00000000).scaleb(-8),
        "quantity": Decimal(1 + trade_id * 977 % 5_00000000).scaleb(-8),
        "exchange_timestamp": at,
        "receive_timestamp": at + timedelta(microseconds=1500),
        "vendor_data": {"E": str(int(at.timestamp() * 1000))},
    }
    return record | changes


def make_records(symbol: str, first_id: int, count: int, at: datetime, step_us: int = 10_000) -> list[Record]:
    """Consecutive trades, `step_us` apart."""
    return [make_record(symbol, first_id + n, at + timedelta(microseconds=n * step_us)) for n in range(count)]


def event_time(record: Record) -> datetime:
    """What the table's `event_time` must be."""
    found: datetime = record["exchange_timestamp"] or record["receive_timestamp"]
    return found


def ids(records: list[Record], symbol: str = "BTCUSDT") -> list[str]:
    """The ids of a symbol's records in the order of answers."""
    ordered = sorted(records, key=lambda one: (event_time(one), one["sequence"]))
    return [one["message_id"] for one in ordered if one["symbol"] == symbol]


@dataclass
class Logged:
    """A record and where it is in the log."""

    record: Record
    topic_id: TopicId
    partition: Partition
    offset: Offset


def table_rows(logged: Iterable[Logged]) -> pa.Table:
    """Rows of the table for records of the log."""
    columns: dict[str, list[Any]] = {name: [] for name in TRADES.table_schema.names}
    for one in logged:
        position = {"topic_id": one.topic_id, "kafka_partition": one.partition, "kafka_offset": one.offset}
        row = one.record | position | {"event_time": event_time(one.record)}
        for name, values in columns.items():
            values.append(list(row[name].items()) if name == "vendor_data" else row[name])
    arrays = [pa.array(columns[column.name], column.type) for column in TRADES.table_schema]
    return pa.Table.from_arrays(arrays, schema=TRADES.table_schema)


@dataclass
class World:
    """One pipeline: a topic, a table, and a sink that does what it is told.

    Args:
        bootstrap_servers: The broker.
        folder: Catalog and warehouse go here.
        namespace: Distinct from all others on the broker.
        lake: Variables that name another catalog and warehouse than those in the folder.
    """

    bootstrap_servers: str
    folder: Path
    namespace: str
    partitions: int = 4
    log: list[Logged] = field(default_factory=list)
    state: CommitState | None = None
    lake: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lake = {name.removeprefix("K2_").lower(): value for name, value in self.lake.items()} or {
            "catalog_uri": f"sqlite:///{self.folder}/catalog.db",
            "warehouse": f"file://{self.folder}/warehouse",
        }
        self.settings = QuerySettings.model_validate(
            {
                "kafka_bootstrap_servers": self.bootstrap_servers,
                "pipeline_file": self.folder / "pipeline.yaml",
                "embedded": True,
                "port": 0,
                **lake,
            }
        )
        self.pipeline: Pipeline = parse_pipeline(self.document())
        self.topic: TopicName = next(iter(self.pipeline.trades_topics()))
        self.admin = KafkaAdmin(self.settings)
        self._producer: Producer | None = None
        self._catalog: Catalog | None = None

    def document(self, **query: Any) -> dict[str, Any]:
        """The pipeline file."""
        source = {
            "name": "binance",
            "venue": "binance",
            "symbols": [{"name": "BTCUSDT"}],
            "partitions": self.partitions,
        }
        spec: dict[str, Any] = {"namespace": self.namespace, "ingestion": [source], "query": query}
        return {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": "test"}, "spec": spec}

    def create_topic(self) -> TopicId:
        """Creates the topic as the ingest would; returns its id."""
        self.admin.ensure_topics({self.topic: self.partitions})
        return self.topic_id

    @property
    def topic_id(self) -> TopicId:
        """The id, waited for: a broker describes a new topic a little later than it acknowledges it."""
        deadline = time.monotonic() + _DELIVERY_TIMEOUT_S
        while self.topic not in (found := self.admin.describe_topics([self.topic])):
            assert time.monotonic() < deadline, f"topic {self.topic} does not appear"
            time.sleep(0.02)
        return found[self.topic][0]

    @property
    def catalog(self) -> Catalog:
        if self._catalog is None:
            (self.folder / "warehouse").mkdir(exist_ok=True)
            self._catalog = open_catalog(self.settings)
        return self._catalog

    def close(self) -> None:
        """Gives connections back."""
        if isinstance(self._catalog, SqlCatalog):
            self._catalog.engine.dispose()
        if self._producer is not None:
            self._producer.close()

    def produce(self, records: Sequence[Record]) -> list[Logged]:
        """Puts records into the log, each in its symbol's partition; returns where they are."""
        return self._send([(record["symbol"], encode(record), record) for record in records])

    def produce_raw(self, values: Sequence[bytes], symbol: str = "BTCUSDT") -> None:
        """Puts bytes into a symbol's partition."""
        self._send([(symbol, value, None) for value in values])

    def _send(self, items: Sequence[tuple[str, bytes, Record | None]]) -> list[Logged]:
        if self._producer is None:
            self._producer = Producer(
                {"bootstrap.servers": self.bootstrap_servers, "linger.ms": 1, "enable.idempotence": True}
            )
        topic_id = self.topic_id
        placed: list[Logged] = []
        for symbol, value, record in items:
            partition = partition_of(Symbol(symbol), self.partitions)

            def delivered(error: Any, message: Any, record: Record | None = record) -> None:
                assert error is None, error
                if record is not None:
                    placed.append(Logged(record, topic_id, message.partition(), message.offset()))

            self._producer.produce(self.topic, value, partition=partition, on_delivery=delivered)
        assert self._producer.flush(_DELIVERY_TIMEOUT_S) == 0
        self.log.extend(placed)
        return placed

    def head_id(self) -> int:
        """The id of the table's newest snapshot."""
        head = self.catalog.load_table((self.namespace, "trades")).current_snapshot()
        assert head is not None
        return head.snapshot_id

    def ends(self) -> dict[Partition, Offset]:
        """The log's ends."""
        return self.admin.stable_ends(self.topic, [Partition(number) for number in range(self.partitions)])

    def commit(
        self,
        upto: Mapping[Partition, Offset] | None = None,
        *,
        deferred: Iterable[LedgerEntry] = (),
        rows: pa.Table | None = None,
    ) -> CommitState:
        """Commits the log up to these ends, or all of it, but for what is deferred; returns the state."""
        ends = self.ends() if upto is None else upto
        before = self.state or CommitState(self.admin.cluster_id())
        entries = (*before.open_ledger, *deferred)
        after = replace(
            before.with_partitions(
                self.topic,
                self.topic_id,
                {at: PartitionState(end) for at, end in ends.items()},
                f"batch-{len(self.log)}",
            ),
            open_ledger=entries,
        )
        taken = [
            one
            for one in self.log
            if one.offset < ends.get(one.partition, 0)
            and one.offset >= _next(before, self.topic, one.partition)
            and not _is_deferred(one, entries)
        ]
        self.write(table_rows(taken) if rows is None else rows, after)
        self.state = after
        return after

    def defer(self, logged: Sequence[Logged], entry: LedgerEntry, previous: str | None = None) -> LedgerEntry:
        """Puts records into a raw file as the sink does at level 3; returns the entry that names it."""
        table = ensure_table(self.catalog, self.namespace, TRADES, self.pipeline.uid)
        rows = raw_rows(
            partition=[one.partition for one in logged],
            offset=[one.offset for one in logged],
            timestamp_ms=[0] * len(logged),
            key=[one.record["symbol"].encode() for one in logged],
            value=[encode(one.record) for one in logged],
        )
        start, end = Offset(logged[0].offset), Offset(logged[-1].offset + 1)
        section = Section(self.topic, logged[0].partition, start, end, len(logged), previous)
        name = RawFiles(table.io, table.location()).write({self.topic: rows}, [section], 1_764_088_369_000).name
        return replace(entry, raw_file=name)

    def trim(self, partition: Partition, upto: int) -> None:
        """Removes the beginning of the log, as retention does."""
        cut = TopicPartition(self.topic, partition, upto)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        admin.delete_records([cut])[cut].result(20)

    def write(self, rows: pa.Table, state: CommitState | None) -> int:
        """Appends rows with a state, as one commit; returns the snapshot's id."""
        table = ensure_table(self.catalog, self.namespace, TRADES, self.pipeline.uid)
        text = {STATE_KEY: state.dump()} if state else {}
        with table.transaction() as transaction:
            if text:
                transaction.set_properties(text)
            if rows.num_rows:
                transaction.append(rows, snapshot_properties=text)
            else:
                with transaction.update_snapshot(snapshot_properties=text).fast_append():
                    pass
        snapshot = table.current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id


def _next(state: CommitState, topic: TopicName, partition: Partition) -> int:
    found = state.partition(topic, partition)
    return found.next if found else 0


def _is_deferred(one: Logged, entries: Iterable[LedgerEntry]) -> bool:
    return any(
        entry.partition == one.partition
        and entry.start <= one.offset < entry.end
        and one.record["symbol"] in entry.symbols
        for entry in entries
    )
