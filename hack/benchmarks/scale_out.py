"""Scaling out: 1, 2 and 4 sinks, then 1 and 2 workers of a Trino, each process with the same share of a core.

On two cores nothing can scale by itself, so the kernel gives each of these processes a fixed share, small enough that
all of them together leave room for what they share: broker, catalog, object storage, coordinator. What is then measured
is whether the software hands the work out evenly and whether turns at the table's commit cost throughput. What is not:
networks, disks and catalogs under the load of many machines.

Sinks start at level 4, at which they stand still, on a log that is full. Once each has its partitions and its share of
a core they are told level 0. Their rate is that between the first commits behind a tenth and nine tenths of the log.
Each run is on a table of its own, and counts only if the table holds each id once.

Last come the same questions to both engines over the same table, without shares: when a second system pays.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from committed import check_table, commits_of
from confluent_kafka.admin import AdminClient
from figures import Figure, at_least
from load import Load, Market
from pyiceberg.table import Table
from quota import limited
from trino_cluster import USER, Cluster, started
from window import SYMBOLS, rows_between
from workload import Progress

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from pyiceberg.io import load_file_io

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import SetupError
from k2_core.kafka import client_config
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState
from k2_core.storage import file_properties
from k2_core.tables import ensure_table, open_catalog
from k2_core.topics import partition_of
from k2_core.types import Symbol
from k2_query.budget import Budget
from k2_query.duckdb_engine import DuckDBEngine
from k2_query.engine import Engine
from k2_query.files import open_files
from k2_query.lake import Lake, LakeSnapshot
from k2_query.ordering import Order
from k2_query.segments import Window
from k2_query.settings import QuerySettings
from k2_query.trino_client import TrinoClient, TrinoServer
from k2_query.trino_engine import TrinoEngine
from k2_sink.files import FileWriter, sort_rows
from support.lake import trades_table
from support.postgres import LocalPostgres
from support.s3 import LocalS3
from support.sink import SinkWorkspace
from support.trino import lake_properties
from support.waiting import wait_until

SINKS: Final = (1, 2, 4)
SINK_CORES: Final = 0.2
PARTITIONS: Final = 8
RECORDS: Final = 1_600_000
WORKERS: Final = (1, 2)
WORKER_CORES: Final = 0.4
ROWS: Final = (1_000_000, 10_000_000)
"""Of the table at two of its snapshots."""
PART_ROWS: Final = 500_000
REPEATS: Final = 3
NAMESPACE: Final = "market"
PATIENCE_S: Final = 240.0
SCAN: Final = (
    "SELECT symbol, count(*), sum(price * quantity), approx_distinct(message_id), max_by(price, event_time), "
    "checksum(message_id) FROM {table} GROUP BY symbol ORDER BY symbol"
)
NOTES: Final = (
    "one machine: broker, catalog, storage and coordinator share its two cores, and have no share of their own",
    "one machine: no network between processes, one disk, one page cache, whose hits more processes do not divide",
    "speed-up is of shares of a core: a second node brings memory and bandwidth, too, which none of this measures",
)

_EMPTY: Final = TRADES.table_schema.empty_table()


def run(progress: Progress) -> list[Figure]:
    """Measure sinks, then workers, then the engines beside each other."""
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as name:
        folder = Path(name)
        figures = _sinks(folder, progress) + _queries(folder, progress)
    for note in NOTES:
        progress(f"note: {note}")
    return figures


def _sinks(folder: Path, progress: Progress) -> list[Figure]:
    rates: dict[int, float] = {}
    with LocalKafka(folder / "kafka") as kafka:
        filled = _workspace(kafka.bootstrap_servers, folder / "fill", NAMESPACE)
        with Load(filled.settings, Market(filled.topic, PARTITIONS, _even_symbols())) as load:
            load.burst(RECORDS)
            wait_until(lambda: load.sent >= RECORDS, "the log to be filled", PATIENCE_S)
            expected = load.expected()
        progress(f"{RECORDS:,} records in {PARTITIONS} partitions")
        for count in SINKS:
            work = _workspace(kafka.bootstrap_servers, folder / f"sinks-{count}", NAMESPACE)
            try:
                rates[count] = _rate(work, count, expected)
            finally:
                work.close()
            progress(f"{count} sinks of {SINK_CORES} cores: {rates[count]:,.0f} records/s")
    alone = rates[SINKS[0]]
    figures = [
        Figure("scale-out", f"{count} sinks of {SINK_CORES} cores each", rate, "records/s")
        for count, rate in rates.items()
    ]
    return figures + [
        at_least("scale-out", f"speed-up of {count} sinks", rate / alone, "ratio", 0.8 * count, 1.0)
        for count, rate in rates.items()
        if count > 1
    ]


def _workspace(bootstrap_servers: str, folder: Path, namespace: str) -> SinkWorkspace:
    folder.mkdir(parents=True)
    sink = {"commitIntervalSeconds": 1}
    return SinkWorkspace(bootstrap_servers, folder, partitions=PARTITIONS, namespace=namespace, sink=sink)


def _even_symbols() -> tuple[Symbol, ...]:
    """Return two symbols for each partition."""
    found: dict[int, list[Symbol]] = {}
    number = 0
    while sum(len(own) for own in found.values()) < 2 * PARTITIONS:
        symbol = Symbol(f"S{number}USDT")
        own = found.setdefault(int(partition_of(symbol, PARTITIONS)), [])
        if len(own) < 2:
            own.append(symbol)
        number += 1
    return tuple(symbol for own in found.values() for symbol in own)


def _rate(work: SinkWorkspace, count: int, expected: Mapping[str, range]) -> float:
    """Return records a second of so many sinks, from the table's own snapshots."""
    work.set_level(4)
    sinks = [work.start() for _ in range(count)]
    for sink in sinks:
        sink.wait_said("level changed")
    wait_until(lambda: _is_shared_out(work, count), "the partitions to be shared out", PATIENCE_S)
    with ExitStack() as limits:
        for sink in sinks:
            limits.enter_context(limited(sink.process.pid, SINK_CORES))
        work.set_level(0)
        wait_until(lambda: work.committed() >= RECORDS, "the log to be taken in", PATIENCE_S)
    for sink in sinks:
        if sink.terminate() != 0:
            raise SetupError(f"a sink failed: {sink.lines[-1]}")
    check_table(trades_table(work.settings, work.namespace), expected)
    commits = _commits(work)
    (first_s, first), (last_s, last) = (
        next(commit for commit in commits if commit[1] >= share * RECORDS) for share in (0.1, 0.9)
    )
    return (last - first) / (last_s - first_s)


def _is_shared_out(work: SinkWorkspace, count: int) -> bool:
    """Whether each of so many sinks has its partitions."""
    group = f"k2.{work.namespace}.test.sink"
    admin = AdminClient(client_config(work.settings))  # named: without it nobody would answer
    found = admin.describe_consumer_groups([group])[group].result(10)
    held = [len(member.assignment.topic_partitions) for member in found.members]
    return len(held) == count and held == [PARTITIONS // count] * count


def _commits(work: SinkWorkspace) -> list[tuple[float, int]]:
    """Return when each commit was, in seconds of the epoch, and how many records the table had taken in then."""
    table = trades_table(work.settings, work.namespace)
    assert table is not None
    commits = commits_of(table, work.topic)
    return [(at_s, sum(one.next for one in ends.values())) for at_s, ends in commits]


def _queries(folder: Path, progress: Progress) -> list[Figure]:
    with _lake(folder) as settings, closing(open_catalog(settings)) as catalog:
        table = ensure_table(catalog, NAMESPACE, TRADES, "bench")
        start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
        snapshots = _fill(table, start, progress)
        with started(folder) as cluster:
            _make_catalog(cluster, settings)
            progress("Trino has started")
            workers = _workers(cluster, progress)
            return workers + _engines(folder, settings, cluster, (start, snapshots), progress)


@contextmanager
def _lake(folder: Path) -> Iterator[QuerySettings]:
    (folder / "s3").mkdir()
    (folder / "postgres").mkdir()
    s3, postgres = LocalS3(folder / "s3"), LocalPostgres(folder / "postgres")
    with ExitStack() as stack:
        stack.callback(s3.stop)
        s3.start()
        stack.callback(postgres.remove)
        postgres.start()
        variables = {"K2_CATALOG_URI": postgres.database(), **s3.environment(s3.bucket())}
        yield QuerySettings.model_validate(
            {name.removeprefix("K2_").lower(): value for name, value in variables.items()}
        )


def _fill(table: Table, start: datetime, progress: Progress) -> list[int]:
    """Write trades of one day as a sink does; return the snapshot at each of `ROWS`."""
    state, writer, found = CommitState("bench").dump(), FileWriter(table, compression_level=3), []
    parts = max(ROWS) // PART_ROWS
    span = timedelta(days=1) / parts
    for number in range(parts):
        rows = rows_between(number * PART_ROWS, PART_ROWS, start + span * number, span, "bench")
        files = [writer.write(group, f"{number}-{group.bucket}-{group.day}") for group in sort_rows(rows)]
        with table.transaction() as transaction:
            transaction.set_properties({STATE_KEY: state})
            with transaction.update_snapshot(snapshot_properties={STATE_KEY: state}).fast_append() as append:
                for file in files:
                    append.append_data_file(file)
        if (number + 1) * PART_ROWS in ROWS:
            head = table.current_snapshot()
            assert head is not None
            found.append(head.snapshot_id)
            progress(f"{(number + 1) * PART_ROWS:,} rows in the table")
    return found


def _make_catalog(cluster: Cluster, settings: QuerySettings) -> None:
    listed = ", ".join(f"\"{key}\" = '{value}'" for key, value in lake_properties(settings).items())
    cluster.query(f"CREATE CATALOG lake USING iceberg WITH ({listed})")


def _workers(cluster: Cluster, progress: Progress) -> list[Figure]:
    """Return how long a scan of the whole table takes with one worker and with two."""
    seconds: dict[int, float] = {}
    answers = set()
    text = SCAN.format(table=f"lake.{NAMESPACE}.trades")
    for count in WORKERS:
        while len(cluster.workers) < count:
            cluster.add()
        wait_until(lambda: cluster.active() == len(cluster.workers), f"{count} workers", PATIENCE_S)
        cluster.query(text)  # its code is compiled then, and its files are in the page cache
        with ExitStack() as limits:
            for worker in cluster.workers:
                limits.enter_context(limited(worker.pid, WORKER_CORES))
            seconds[count] = _median_s(lambda: answers.add(str(cluster.query(text))))
        progress(f"{count} workers of {WORKER_CORES} cores: {seconds[count]:.1f} s for {max(ROWS):,} rows")
    if len(answers) != 1 or str(max(ROWS) // len(SYMBOLS)) not in next(iter(answers)):
        raise SetupError(f"the workers answered differently, or wrongly: {sorted(answers)}")
    figures = [
        Figure("scale-out", f"scan of {max(ROWS):,} rows, {count} workers of {WORKER_CORES} cores each", value, "s")
        for count, value in seconds.items()
    ]
    ratio = seconds[1] / seconds[2]
    return [*figures, at_least("scale-out", "speed-up of 2 workers", ratio, "ratio", 1.6, 1.0)]


def _engines(
    folder: Path, settings: QuerySettings, cluster: Cluster, filled: tuple[datetime, list[int]], progress: Progress
) -> list[Figure]:
    """Return how long the API's questions take each engine, over snapshots of two sizes."""
    start, snapshots = filled
    day = Window(SYMBOLS[0], _us(start), _us(start + timedelta(days=1)))
    at = start + timedelta(days=1) / (max(ROWS) // min(ROWS)) / 2  # in the middle of what the small one holds
    quarter = Window(SYMBOLS[0], _us(at), _us(at + timedelta(minutes=15)))
    lake = Lake(lambda: open_catalog(settings), NAMESPACE, TRADES)
    figures = []
    with ExitStack() as stack:
        stack.callback(lake.stop)
        lake.start()
        wait_until(lambda: lake.peek() and lake.head(1).snapshot.id == snapshots[-1], "the newest snapshot")
        head = lake.head(1)
        engines: dict[str, Engine] = {"DuckDB": _duckdb(settings, folder), "Trino": _trino(cluster)}
        for engine in engines.values():
            stack.callback(engine.close)
        for rows, number in zip(ROWS, snapshots, strict=True):
            snapshot, answers = lake.at(number, head), []
            for name, engine in engines.items():
                questions = _questions(engine, snapshot, quarter, day)
                answers.append([ask() for ask in questions.values()])  # the first time is not counted
                for question, ask in questions.items():
                    took_s = _median_s(ask)
                    progress(f"{name}, {rows:,} rows, {question}: {took_s * 1e3:,.0f} ms")
                    figures.append(Figure("scale-out", f"{name}, {rows:,} rows: {question}", took_s * 1e3, "ms"))
            if answers[0] != answers[1]:
                raise SetupError(f"the engines answered differently about {rows} rows")
    return figures


def _questions(
    engine: Engine, snapshot: LakeSnapshot, quarter: Window, day: Window
) -> dict[str, Callable[[], list[Any]]]:
    def first_rows() -> list[Any]:
        found: list[Any] = engine.rows(snapshot, quarter, Order.ASC, 1_000, Budget(PATIENCE_S)).to_pylist()
        return found

    def daily() -> list[Any]:
        return list(engine.daily(snapshot, day, _EMPTY, Budget(PATIENCE_S)))

    return {"1,000 rows of 15 minutes of a symbol": first_rows, "a day's figures of a symbol": daily}


def _duckdb(settings: QuerySettings, folder: Path) -> Engine:
    assert settings.warehouse is not None
    warehouse, properties = settings.warehouse, file_properties(settings)
    files = open_files(
        warehouse, lambda: load_file_io(properties, warehouse), folder / "cache", 1 << 31, lambda _: None
    )
    return DuckDBEngine(files, memory_bytes=512 << 20, threads=2, cursors=2)


def _trino(cluster: Cluster) -> Engine:
    client = TrinoClient(TrinoServer(cluster.url, USER, "lake"), connections=2)
    return TrinoEngine(client, "lake", NAMESPACE)


def _median_s(do: Callable[[], object]) -> float:
    taken_s = []
    for _ in range(REPEATS):
        began_s = time.monotonic()
        do()
        taken_s.append(time.monotonic() - began_s)
    return float(np.median(taken_s))


def _us(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
