"""The whole path on this machine: K2's exchange, ingest, Kafka, sink and query API, each a process of its own.

Throughput: a seeded market of 2 M trades at full speed, from the first trade that the exchange sends to the commit
that holds the last one; so many that the wait for that commit, up to an interval of 10 s, is a small part of it.
Freshness: 1,000 trades a second with bursts, and a client that asks for the newest trades again and again; a trade's
age is that of its exchange time when an answer first shows it. Exchange and client share the machine, so one clock
tells both times.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import yaml
from committed import check_table, commits_of, committed_s
from figures import Figure, at_least, at_most
from pyiceberg.table import Table
from workload import TOPIC, Progress

from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.ports import find_free
from k2_cli.stack.process import ManagedProcess
from k2_core.config import ServiceSettings
from k2_core.errors import SetupError
from k2_core.records import TRADES
from k2_core.state import STATE_KEY, CommitState
from k2_core.tables import load_table, open_catalog

COUNT = 2_000_000
RATE_PER_S = 1_000
ANSWERS_FOR_S = 20.0
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
NAMESPACE = "market"
PATIENCE_S = 120.0
API_KEY = "k2-dev-api-key-2026"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run lives."""

    folder: Path
    bootstrap_servers: str
    exchange_port: int
    api_port: int
    metrics_port: int

    @property
    def environment(self) -> dict[str, str]:
        """Return what its services read."""
        return {
            **os.environ,
            "K2_PIPELINE_FILE": str(self.folder / "pipeline.yaml"),
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "K2_CATALOG_URI": f"sqlite:///{self.folder}/catalog.db?timeout=30",
            "K2_WAREHOUSE": f"file://{self.folder}/warehouse",
            "K2_INGEST_URL": f"ws://127.0.0.1:{self.exchange_port}",
            "K2_INGEST_REST_URL": f"http://127.0.0.1:{self.exchange_port}",
            "K2_EMBEDDED": "true",
        }


def run(progress: Progress) -> list[Figure]:
    """Measure throughput, then freshness, each on a fresh Kafka and a fresh table."""
    with _place() as place:
        throughput = _throughput(place)
    progress(f"{COUNT:,} trades at {throughput:,.0f} a second")
    with _place() as place:
        ages, stages = _freshness(place)
    progress(f"{len(ages):,} trades seen through the API")
    figures = [
        at_least("end-to-end", "exchange to committed, broker and exchange included", throughput, "trades/s", 20_000),
        at_most("end-to-end", "freshness p99, exchange to readable through the API", _p99(ages), "s", 0.5),
        Figure("end-to-end", "freshness p50", float(np.median(ages)), "s"),
    ]
    return figures + [Figure("end-to-end", f"freshness p99, {name}", value, "s") for name, value in stages.items()]


@contextmanager
def _place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as name, LocalKafka(Path(name)) as kafka:
        ports: list[int] = []
        for seed in ("exchange", "api", "metrics"):
            ports.append(find_free(seed, avoid=frozenset(ports)))
        sources = [{"name": "binance", "venue": "binance", "symbols": [{"name": symbol} for symbol in SYMBOLS]}]
        document = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": "bench"},
            "spec": {"namespace": NAMESPACE, "ingestion": sources},
        }
        (Path(name) / "pipeline.yaml").write_text(yaml.safe_dump(document))
        yield Place(Path(name), kafka.bootstrap_servers, *ports)


def _start(place: Place, stack: ExitStack, name: str, *command: str, **more: str) -> ManagedProcess:
    process = ManagedProcess(
        name=name,
        command=[sys.executable, "-m", *command],
        log=place.folder / f"{name}.log",
        env={**place.environment, **more},
    )
    process.start()
    stack.callback(process.stop)
    return process


def _exchange(place: Place, stack: ExitStack, *options: str) -> None:
    where = ("--port", str(place.exchange_port), "--symbols", ",".join(SYMBOLS))
    _start(place, stack, "exchange", "k2_cli", "exchange", *where, *options)


def _throughput(place: Place) -> float:
    with ExitStack() as stack:
        _start(place, stack, "sink", "k2_sink")
        _exchange(place, stack, "--rate", "0", "--count", str(COUNT))
        _start(place, stack, "ingest", "k2_ingest", K2_INGEST_STOP_AT_END="true")
        _wait(lambda: _emitted(place) > 0, "the exchange to send")
        started = time.monotonic()
        _wait(lambda: _committed(place) >= COUNT, "everything to be committed")
        took_s = time.monotonic() - started
        check_table(_table(place), _sent_ids(place))
        return COUNT / took_s


def _streams(place: Place) -> dict[str, dict[str, int]]:
    """Return what the exchange says of each stream."""
    status = httpx.get(f"http://127.0.0.1:{place.exchange_port}/k2/status", timeout=5).json()
    streams: dict[str, dict[str, int]] = status["streams"]
    return streams


def _emitted(place: Place) -> int:
    try:
        return sum(stream["emitted"] for stream in _streams(place).values())
    except httpx.TransportError:
        return 0


def _sent_ids(place: Place) -> dict[str, range]:
    sent = {
        name.partition("@")[0].upper(): range(stream["first_id"], stream["last_id"] + 1)
        for name, stream in _streams(place).items()
        if name.endswith("@trade")
    }
    if (total := sum(map(len, sent.values()))) != COUNT:
        raise SetupError(f"the exchange sent {total} trades, expected {COUNT}")
    return sent


def _table(place: Place) -> Table | None:
    settings = ServiceSettings.model_validate(
        {
            "catalog_uri": place.environment["K2_CATALOG_URI"],
            "warehouse": place.environment["K2_WAREHOUSE"],
        }
    )
    return load_table(open_catalog(settings), NAMESPACE, TRADES)


def _committed(place: Place) -> int:
    table = _table(place)
    text = table.metadata.properties.get(STATE_KEY) if table else None
    if text is None:
        return 0
    topics = CommitState.parse(text).topics.values()
    return sum(at.rows() for topic in topics for at in topic.partitions.values())


def _freshness(place: Place) -> tuple[list[float], dict[str, float]]:
    """Return the ages in seconds of trades when an answer first showed them, and the p99 of the stages."""
    with ExitStack() as stack:
        _start(place, stack, "sink", "k2_sink")
        _start(place, stack, "query", "k2_query", K2_PORT=str(place.api_port))
        _exchange(place, stack, "--rate", str(RATE_PER_S))
        _start(place, stack, "ingest", "k2_ingest", K2_METRICS_PORT=str(place.metrics_port))
        with httpx.Client(
            base_url=f"http://127.0.0.1:{place.api_port}", headers={"X-API-Key": API_KEY}, timeout=10
        ) as client:
            _wait(lambda: _answers(client), "the API to show trades")
            _wait(lambda: _committed(place) > 0, "a first commit")
            scrape = httpx.Client(base_url=f"http://127.0.0.1:{place.metrics_port}")
            stack.callback(scrape.close)
            stages = {
                "received to acknowledged (upper edge of the bucket)": (
                    scrape,
                    "k2_ingest_receive_to_acknowledge_seconds",
                ),
                "received to in the tail (upper edge of the bucket)": (client, "k2_query_freshness_seconds"),
            }
            before = {text: _buckets(server, name) for text, (server, name) in stages.items()}
            began_s = time.time()
            ages, receive = _ask(client)
            found = {text: _bucket_p99(before[text], _buckets(*stage)) for text, stage in stages.items()}
        found["received to committed"] = _p99(_commit_ages(place, began_s))
        return ages, {"exchange to received": _p99(receive), **found}


def _commit_ages(place: Place, began_s: float) -> list[float]:
    """Return the seconds from the receipt of each trade since then to the commit that holds it, as the table tells."""
    table = _table(place)
    assert table is not None
    fields = ("receive_timestamp", "kafka_partition", "kafka_offset")
    rows = table.scan(selected_fields=fields).to_arrow()
    received_s = rows.column("receive_timestamp").cast(pa.int64()).to_numpy() / 1e6
    where = (rows.column(name).to_numpy() for name in ("kafka_partition", "kafka_offset"))
    ages = (committed_s(commits_of(table, TOPIC), *where) - received_s)[received_s >= began_s]
    if not len(ages):
        raise SetupError("freshness: found no commit of a trade that came while the API was asked, expected one")
    return [float(age) for age in ages]


def _recent(client: httpx.Client, symbol: str) -> httpx.Response:
    return client.get("/v1/trades/recent", params={"symbol": symbol, "window": "1m", "limit": "500"})


def _answers(client: httpx.Client) -> bool:
    try:
        answer = _recent(client, SYMBOLS[0])
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK and bool(answer.json()["data"])


def _ask(client: httpx.Client) -> tuple[list[float], list[float]]:
    """Ask for the newest trades of each symbol in turn; those of the first round are too old to count."""
    seen: set[str] = set()
    ages: list[float] = []
    receive: list[float] = []
    first_round = len(SYMBOLS)
    end = time.monotonic() + ANSWERS_FOR_S
    number = 0
    while time.monotonic() < end:
        rows = _recent(client, SYMBOLS[number % len(SYMBOLS)]).json()["data"]
        now = time.time()
        fresh = [row for row in rows if row["message_id"] not in seen]
        seen.update(row["message_id"] for row in fresh)
        if number >= first_round:
            ages += [now - _seconds(row["exchange_timestamp"]) for row in fresh]
            receive += [_seconds(row["receive_timestamp"]) - _seconds(row["exchange_timestamp"]) for row in fresh]
        number += 1
    if not ages:
        raise SetupError("freshness: found no new trade in any answer, expected thousands")
    return ages, receive


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _p99(values: list[float]) -> float:
    return float(np.percentile(values, 99))


def _buckets(server: httpx.Client, name: str) -> dict[float, float]:
    """Return a histogram's cumulative counts by upper edge."""
    edges: dict[float, float] = {}
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(f"{name}_bucket"):
            edge = float(line.partition('le="')[2].partition('"')[0])
            edges[edge] = edges.get(edge, 0.0) + float(line.rpartition(" ")[2])
    if not edges:
        raise SetupError(f"metrics: found no {name}_bucket, expected it")
    return edges


def _bucket_p99(before: dict[float, float], after: dict[float, float]) -> float:
    """Return the upper edge of the bucket that holds the 99th percentile of what came in between."""
    counts = {edge: count - before[edge] for edge, count in after.items()}
    return min(edge for edge, count in counts.items() if count >= 0.99 * max(counts.values()))


def _wait(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SetupError(f"waited {PATIENCE_S:.0f} s in vain for {what}")
        time.sleep(0.05)
