"""Ingest: trades per CPU-second of the process, from the socket to acknowledged in Kafka.

The load is K2's own exchange at full speed in the parent process; the measured process is a child that runs the real
service. CPU time is the child's (all threads, librdkafka's too) from the open connection to the last acknowledgement;
starting up is not counted. The baseline is the same service with fastavro and Decimal for each record.

Called by the runner (`hack/bench ingest`) with a function to report progress to.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import fastavro
import uvloop
import yaml
from figures import Figure, at_least

from k2_cli.stack.kafka import LocalKafka
from k2_core.codec import wire_prefix
from k2_core.config import read_settings
from k2_core.records import TRADES as TRADE_RECORD
from k2_core.spec import load_pipeline
from k2_ingest.encode import TradeEncoder
from k2_ingest.exchange.config import ExchangeConfig, SyntheticSource
from k2_ingest.exchange.server import Exchange
from k2_ingest.sequence import Arrival, SequenceTracker
from k2_ingest.service import IngestService
from k2_ingest.settings import IngestSettings
from k2_ingest.trade import Trade

SYMBOLS = SyntheticSource().symbols
TARGETS = {"first": 60_000.0, "second": 80_000.0}
TRADES = 1_000_000
BASELINE_TRADES = 300_000

Measured = dict[str, float]


def run(say: Callable[[str], object]) -> list[Figure]:
    """Start a Kafka, measure ingest and its baseline, and return the figures."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder)) as kafka:
        say(f"{TRADES:,} trades through the real service")
        tracking = [tracking_s(TRADES)]
        ours = _measure(kafka.bootstrap_servers, TRADES, baseline=False)
        tracking.append(tracking_s(TRADES))
        say(f"{BASELINE_TRADES:,} trades with fastavro and Decimal for each record")
        theirs = _measure(kafka.bootstrap_servers, BASELINE_TRADES, baseline=True)
    return [*figures_of(ours, theirs), share_of_tracking(ours, tracking)]


def figures_of(ours: Measured, theirs: Measured) -> list[Figure]:
    """Return the figures of a run beside those of the baseline."""
    rate, usual = ours["trades"] / ours["cpu_s"], theirs["trades"] / theirs["cpu_s"]
    name = "trades per CPU-second of the process"
    wall, usual_wall = ours["trades"] / ours["wall_s"], theirs["trades"] / theirs["wall_s"]
    return [
        *(
            at_least("ingest", f"{name}, {stage} target", rate, "1/s", target, usual)
            for stage, target in TARGETS.items()
        ),
        Figure("ingest", "trades per second of wall, exchange and broker beside it", wall, "1/s", baseline=usual_wall),
        Figure("ingest", "peak memory", ours["rss_bytes"] / 2**20, "MiB", baseline=theirs["rss_bytes"] / 2**20),
    ]


def tracking_s(trades: int) -> float:
    """Return the CPU seconds that sequence tracking takes of the hot loop, without the loop itself."""
    trackers, ids = [SequenceTracker() for _ in SYMBOLS], range(10**9, 10**9 + trades // len(SYMBOLS))
    began = time.process_time()
    for tracker in trackers:
        for trade_id in ids:
            if tracker.observe(trade_id) is Arrival.AFTER_GAP:
                raise SystemExit("found a gap, expected none")
    spent = time.process_time() - began
    began = time.process_time()
    for _ in trackers:
        for _ in ids:
            pass
    return spent - (time.process_time() - began)


def share_of_tracking(ours: Measured, tracking: list[float]) -> Figure:
    """Return what share of the ingest's CPU goes into sequence tracking, measured before and after it."""
    share = sum(tracking) / len(tracking) / ours["cpu_s"] * 100
    return Figure("ingest", "share of sequence tracking in the CPU of the process", share, "%")


def _measure(bootstrap_servers: str, trades: int, *, baseline: bool) -> Measured:
    """Run one child against one exchange; every trade must be acknowledged."""

    async def against_an_exchange(folder: Path) -> Measured:
        async with Exchange(ExchangeConfig(SyntheticSource(rate=0, count=trades))) as exchange:
            environment = os.environ | {
                "K2_PIPELINE_FILE": str(_pipeline_file(folder)),
                "K2_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
                "K2_INGEST_URL": exchange.websocket_url,
                "K2_INGEST_REST_URL": exchange.rest_url,
                "K2_INGEST_STOP_AT_END": "true",
            }
            command = [sys.executable, __file__, *(["--baseline"] if baseline else [])]
            child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
            output, _ = await child.communicate()
        if child.returncode:
            raise SystemExit(f"the measured process ended with {child.returncode}, expected 0")
        measured: Measured = json.loads(output)
        if measured["trades"] != trades:
            raise SystemExit(f"acknowledged {measured['trades']} trades, expected {trades}")
        return measured

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(against_an_exchange(Path(folder)))


def _pipeline_file(folder: Path) -> Path:
    source = {"name": "bench", "venue": "binance", "partitions": 4, "symbols": [{"name": name} for name in SYMBOLS]}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "bench"},
        "spec": {"namespace": f"bench{uuid.uuid4().hex[:8]}", "ingestion": [source]},
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class FastavroEncoder(TradeEncoder):
    """The usual way: a dictionary and two Decimals for each record."""

    schema = fastavro.parse_schema(dict(TRADE_RECORD.avro))

    def encode(self, trade: Trade, receive_us: int) -> bytes:
        body = io.BytesIO()
        body.write(wire_prefix(TRADE_RECORD.packaged_id))
        record = {
            "message_id": f"binance:spot:{trade.symbol}:{trade.trade_id}",
            "symbol": trade.symbol,
            "exchange": "binance",
            "market": "spot",
            "asset_class": "crypto",
            "trade_id": str(trade.trade_id),
            "sequence": trade.trade_id,
            "side": "sell" if trade.sold else "buy",
            "price": Decimal(trade.price).scaleb(-8),
            "quantity": Decimal(trade.quantity).scaleb(-8),
            "exchange_timestamp": trade.exchange_us,
            "receive_timestamp": receive_us,
            "vendor_data": {key: str(number) for key, number in trade.vendor},
        }
        fastavro.schemaless_writer(body, self.schema, record)
        return body.getvalue()


async def _child(*, baseline: bool) -> Measured:
    """The measured process."""
    settings = read_settings(IngestSettings)
    service = IngestService(settings, load_pipeline(settings.pipeline_file))
    running = asyncio.create_task(service.run())
    while service.feed is None or not service.feed.connected:
        await asyncio.sleep(0.001)
        if running.done():
            break
    if baseline:
        for lane in service.lanes.values():
            lane.encoder = FastavroEncoder.__new__(FastavroEncoder)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    code = await running
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    if code:
        raise SystemExit(code)
    return {
        "trades": sum(account.acknowledged for account in service.producer.accounts.values()),
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    # The child of `run`: the runner itself never executes this file.
    print(json.dumps(uvloop.run(_child(baseline="--baseline" in sys.argv))))
