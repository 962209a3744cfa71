"""The window query: `/v1/trades` for 15 minutes of one symbol, 1,000 rows, over HTTP on loopback, warm.

The table holds 2 M trades of one hour as the sink writes them, a commit every 18 s; beside the queries a producer keeps
a live tail. Each answer is checked: complete, 1,000 rows, in order. The baseline is the same filter through pyiceberg's
own scan, sorted and cut by Arrow, without HTTP, JSON or the log.

Called by the runner (`hack/bench window`) with a function to report progress to.
"""

from __future__ import annotations

import gc
import http.client
import io
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from confluent_kafka import Producer
from figures import Figure, at_most
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, LessThan
from pyiceberg.table import Table

from k2_cli.stack.kafka import LocalKafka
from k2_core.codec import wire_prefix
from k2_core.errors import SetupError
from k2_core.kafka import KafkaAdmin
from k2_core.records import TRADES
from k2_core.spec import load_pipeline
from k2_core.state import STATE_KEY, CommitState, PartitionState
from k2_core.tables import ensure_table, open_catalog
from k2_core.topics import partition_of
from k2_core.types import Offset, Partition, Symbol, TopicName
from k2_query.settings import DEVELOPMENT_KEY, QuerySettings
from k2_sink.files import FileWriter, sort_rows

TRADES_IN_TABLE: Final = 2_000_000
COMMITS: Final = 200
SPAN: Final = timedelta(hours=1)
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")
PARTITIONS: Final = 50
TAIL_PER_S: Final = 500
QUERIES: Final = 400
WARM_UP: Final = 40
BASELINE_QUERIES: Final = 10
LIMIT: Final = 1_000
TARGET_MS: Final = 100.0
_READY_TIMEOUT_S: Final = 60.0

Say = Callable[[str], None]


def run(say: Say) -> list[Figure]:
    """Return the figures of the window query."""
    with tempfile.TemporaryDirectory(prefix="k2-window-") as folder:
        kafka = LocalKafka(Path(folder) / "kafka")
        kafka.start()
        try:
            return _measure(Path(folder), kafka.bootstrap_servers, say)
        finally:
            kafka.stop()


def _measure(folder: Path, bootstrap_servers: str, say: Say) -> list[Figure]:
    environment, settings = _configure(folder, bootstrap_servers)
    topic = next(iter(load_pipeline(settings.pipeline_file).trades_topics()))
    KafkaAdmin(settings).ensure_topics({topic: PARTITIONS})
    start = datetime.now(UTC).replace(microsecond=0) - SPAN
    say(f"writing {TRADES_IN_TABLE:,} trades in {COMMITS} commits")
    table = _fill(settings, topic, start)
    files = len(list(table.scan().plan_files()))
    say(f"{files} files; {QUERIES} queries of each kind")
    with _tail(bootstrap_servers, topic), service(environment, folder) as port:
        client = Client(port)
        middle = start + SPAN / 2
        kinds = {
            "15 minutes, oldest first": {"start": middle, "end": middle + timedelta(minutes=15), "order": "asc"},
            "15 minutes, newest first": {"start": middle, "end": middle + timedelta(minutes=15), "order": "desc"},
            "15 minutes up to now, newest first": {"start": datetime.now(UTC) - timedelta(minutes=15), "order": "desc"},
        }
        gc.freeze()  # the client's own pauses are not the service's
        before = client.freshness()
        measured = {name: client.times_ms(parameters) for name, parameters in kinds.items()}
        freshness = _p99_ms(before, client.freshness())
    baseline = _baseline_ms(table, middle)
    figures = []
    for name, times in measured.items():
        p50, p99 = float(np.percentile(times, 50)), float(np.percentile(times, 99))
        figures.append(at_most("window", f"p99, {name}", p99, "ms", TARGET_MS, baseline))
        figures.append(Figure("window", f"p50, {name}", p50, "ms", baseline=baseline))
    figures.append(Figure("window", "files of the table", files, ""))
    figures.append(Figure("window", f"received to readable, p99, {TAIL_PER_S}/s", freshness, "ms"))
    return figures


def _configure(folder: Path, bootstrap_servers: str) -> tuple[dict[str, str], QuerySettings]:
    source = {"name": "bench", "venue": "binance", "symbols": [{"name": name} for name in SYMBOLS]}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "bench"},
        "spec": {"namespace": f"w{uuid.uuid4().hex[:8]}", "ingestion": [source | {"partitions": PARTITIONS}]},
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    (folder / "warehouse").mkdir()
    variables = {
        "K2_PIPELINE_FILE": str(path),
        "K2_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "K2_CATALOG_URI": f"sqlite:///{folder}/catalog.db",
        "K2_WAREHOUSE": f"file://{folder}/warehouse",
        "K2_EMBEDDED": "true",
        "K2_PORT": "0",
    }
    values = {name.removeprefix("K2_").lower(): value for name, value in variables.items()}
    return os.environ | variables, QuerySettings.model_validate(values)


def _fill(settings: QuerySettings, topic: TopicName, start: datetime) -> Table:
    pipeline = load_pipeline(settings.pipeline_file)
    table = ensure_table(open_catalog(settings), pipeline.spec.namespace, TRADES, pipeline.uid)
    admin = KafkaAdmin(settings)
    topic_id = admin.describe_topics([topic])[topic][0]
    partitions = {Partition(number): PartitionState(Offset(0)) for number in range(PARTITIONS)}
    state = CommitState(admin.cluster_id()).with_partitions(topic, topic_id, partitions, "bench").dump()
    writer = FileWriter(table, compression_level=3)
    count = TRADES_IN_TABLE // COMMITS
    for number in range(COMMITS):
        rows = rows_between(number * count, count, start + SPAN * number / COMMITS, SPAN / COMMITS, topic_id)
        files = [writer.write(group, f"{number}-{group.bucket}-{group.day}") for group in sort_rows(rows)]
        with table.transaction() as transaction:
            transaction.set_properties({STATE_KEY: state})
            with transaction.update_snapshot(snapshot_properties={STATE_KEY: state}).fast_append() as append:
                for file in files:
                    append.append_data_file(file)
    return table


def rows_between(first: int, count: int, start: datetime, span: timedelta, topic_id: str) -> pa.Table:
    """Return trades of all symbols in turn, evenly over a span."""
    draw = np.random.default_rng(first)
    numbers = np.arange(first, first + count)
    symbols = pa.array(SYMBOLS).take(pa.array(numbers % len(SYMBOLS)))
    ids = pa.array(numbers).cast(pa.string())
    span_us = span // timedelta(microseconds=1)
    times = int(start.timestamp() * 1_000_000) + np.sort(draw.integers(0, span_us, count))
    stamps = pa.array(times).cast(pa.timestamp("us", tz="UTC"))
    columns: dict[str, Any] = {
        "message_id": pc.binary_join_element_wise("binance", "spot", symbols, ids, ":"),
        "symbol": symbols,
        "exchange": pa.repeat("binance", count),
        "market": pa.repeat("spot", count),
        "asset_class": pa.repeat("crypto", count),
        "trade_id": ids,
        "sequence": pa.array(numbers),
        "side": pa.array(["buy", "sell"]).take(pa.array(draw.integers(0, 2, count))),
        "price": _decimals(draw.integers(59_000, 61_000, count) * 10**8 + draw.integers(0, 100, count) * 10**6, 18),
        "quantity": _decimals(draw.integers(1, 10**8, count), 28),
        "exchange_timestamp": stamps,
        "receive_timestamp": stamps,
        "vendor_data": _maps(times),
        "event_time": stamps,
        "topic_id": pa.repeat(topic_id, count),
        "kafka_partition": pa.array(np.zeros(count, dtype=np.int32)),
        "kafka_offset": pa.array(numbers - TRADES_IN_TABLE),  # before the log: none of them is in the tail
    }
    return pa.Table.from_arrays([columns[name] for name in TRADES.table_schema.names], schema=TRADES.table_schema)


def _decimals(units: np.ndarray[Any, Any], precision: int) -> pa.Array:
    """Return numbers of 10^-8 as decimals: 16 bytes each, little-endian."""
    words = np.zeros((len(units), 2), dtype=np.int64)
    words[:, 0] = units
    return pa.Array.from_buffers(pa.decimal128(precision, 8), len(units), [None, pa.py_buffer(words)])


def _maps(times: np.ndarray[Any, Any]) -> pa.Array:
    offsets = pa.array(np.arange(len(times) + 1, dtype=np.int32))
    kind = TRADES.table_schema.field("vendor_data").type
    texts = pa.array(times // 1000).cast(pa.string())
    return pa.MapArray.from_arrays(offsets, pa.repeat("event_time", len(times)), texts).cast(kind)


@contextmanager
def _tail(bootstrap_servers: str, topic: TopicName) -> Iterator[None]:
    """Produce trades of now into the topic until the end of the block, from a process of its own."""
    child = subprocess.Popen([sys.executable, __file__, bootstrap_servers, topic])
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def _produce(bootstrap_servers: str, topic: TopicName) -> None:
    """Produce until terminated; the child of `_tail`."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 1})
    schema = fastavro.parse_schema(dict(TRADES.avro))
    number = TRADES_IN_TABLE
    due = time.monotonic()
    while True:
        due += 1 / TAIL_PER_S
        time.sleep(max(0.0, due - time.monotonic()))
        symbol = SYMBOLS[number % len(SYMBOLS)]
        body = io.BytesIO(wire_prefix(TRADES.packaged_id))
        body.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(body, schema, _live_trade(symbol, number))
        producer.produce(topic, body.getvalue(), partition=partition_of(Symbol(symbol), PARTITIONS))
        producer.poll(0)
        number += 1


def _live_trade(symbol: str, number: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "message_id": f"binance:spot:{symbol}:{number}",
        "symbol": symbol,
        "exchange": "binance",
        "market": "spot",
        "asset_class": "crypto",
        "trade_id": str(number),
        "sequence": number,
        "side": "buy",
        "price": Decimal("60000.12000000"),
        "quantity": Decimal("0.00120000"),
        "exchange_timestamp": now,
        "receive_timestamp": now,
        "vendor_data": {},
    }


@contextmanager
def service(environment: dict[str, str], folder: Path) -> Iterator[int]:
    """Run the query service; gives its port."""
    log = folder / "query.log"
    with log.open("wb") as errors:
        child = subprocess.Popen([sys.executable, "-m", "k2_query"], env=environment, stderr=errors)
    try:
        yield _port(child, log)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=30)


def _port(child: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and (found := json.loads(line)).get("message") == "listening":
                port: int = found["port"]
                if Client(port).healthy():
                    return port
        time.sleep(0.1)
    raise SetupError(
        f"query service: found it not ready, expected /health to be well\n{log.read_text('utf-8')[-2000:]}"
    )


class Client:
    """One keep-alive connection to the API."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def healthy(self) -> bool:
        """Whether everything behind the API is well, and the tail at the log's end."""
        try:
            status, _ = self._get("/health")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.client.OK

    def times_ms(self, parameters: dict[str, Any]) -> list[float]:
        """Return how long each of the queries took, from sending to the last byte."""
        texts = {key: at.isoformat() if isinstance(at, datetime) else at for key, at in parameters.items()}
        times = []
        for number in range(WARM_UP + QUERIES):
            path = "/v1/trades?" + urlencode(texts | {"symbol": SYMBOLS[number % 2], "limit": LIMIT})
            started = time.perf_counter()
            status, body = self._get(path)
            elapsed_ms = (time.perf_counter() - started) * 1000
            _check(status, body, newest_first=texts["order"] == "desc")
            if number >= WARM_UP:
                times.append(elapsed_ms)
        return times

    def freshness(self) -> dict[float, float]:
        """Return the service's own histogram from receipt to readable: counts by bound in seconds."""
        lines = self._get("/metrics")[1].decode().splitlines()
        buckets = [line for line in lines if line.startswith("k2_query_freshness_seconds_bucket")]
        return {float(line.split('le="')[1].split('"')[0]): float(line.split()[-1]) for line in buckets}

    def _get(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", path, headers={"X-API-Key": DEVELOPMENT_KEY})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _p99_ms(before: dict[float, float], after: dict[float, float]) -> float:
    """Return the bound below which 99 % of what came between two looks at a histogram lies."""
    counts = {bound: count - before[bound] for bound, count in after.items()}
    return next(bound for bound, count in counts.items() if count >= 0.99 * counts[math.inf]) * 1000


def _check(status: int, body: bytes, *, newest_first: bool) -> None:
    document = json.loads(body)
    times = [row["event_time"] for row in document.get("data", [])]
    complete = document.get("meta", {}).get("complete")
    if status != http.client.OK or len(times) != LIMIT or times != sorted(times, reverse=newest_first) or not complete:
        raise SetupError(
            f"query: found status {status} and {len(times)} rows ({body[-500:]!r}), expected {LIMIT} in order"
        )


def _baseline_ms(table: Table, middle: datetime) -> float:
    """Return the median of the same question to pyiceberg."""
    times = []
    for _ in range(BASELINE_QUERIES):
        started = time.perf_counter()
        end = middle + timedelta(minutes=15)
        window = And(
            GreaterThanOrEqual(term="event_time", value=middle.isoformat()),
            LessThan(term="event_time", value=end.isoformat()),
        )
        rows = table.scan(row_filter=And(EqualTo(term="symbol", value=SYMBOLS[0]), window)).to_arrow()
        rows.sort_by([("event_time", "ascending"), ("sequence", "ascending")]).slice(0, LIMIT)
        times.append((time.perf_counter() - started) * 1000)
    return float(np.median(times))


if __name__ == "__main__":
    # The child of `run`: the runner itself never executes this file.
    _produce(sys.argv[1], TopicName(sys.argv[2]))
