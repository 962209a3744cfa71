"""Trades for benchmarks, made and encoded fast: a seeded market of a few symbols with contiguous ids."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml
from confluent_kafka import Producer

from k2_core.config import ServiceSettings
from k2_core.kafka import KafkaAdmin
from k2_core.topics import DEAD_LETTER_PARTITIONS, dead_letter_topic, partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.trade import Trade

Progress = Callable[[str], None]
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "LTCUSDT")
START_US = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
LAST_ID = 3_735_683_259
"""Of each symbol before its first trade."""
NAMESPACE = "market"
TOPIC = TopicName("market.crypto.trades.binance")


def trades(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield (symbol, Kafka value): unevenly traded symbols, prices that walk, millisecond times, ids without a gap."""
    draw = random.Random(seed)
    encoders = {name: TradeEncoder(Identity("binance", "spot", "crypto", Symbol(name))) for name in SYMBOLS}
    ids = dict.fromkeys(SYMBOLS, LAST_ID)
    prices, names = _opening(draw, count)
    now_ms = START_US // 1000
    for name in names:
        ids[name] += 1
        prices[name] = max(10**6, prices[name] + draw.randint(-3, 3) * 10**6)
        now_ms += draw.random() < 0.3
        exchange_us = now_ms * 1000
        quantity = int(draw.lognormvariate(0, 2) * 10**3) * 10**3 + 10**3
        trade = Trade(
            Symbol(name), ids[name], draw.random() < 0.5, prices[name], quantity, exchange_us, (("E", now_ms),)
        )
        yield name, encoders[name].encode(trade, exchange_us + draw.randrange(500, 40_000))


def _opening(draw: random.Random, count: int) -> tuple[dict[str, int], list[str]]:
    """Return the first price of each symbol, and whose each trade is."""
    prices = {name: draw.randrange(10**8, 7 * 10**12, 10**6) for name in SYMBOLS}
    weights = [2.0**-rank for rank in range(len(SYMBOLS))]
    return prices, draw.choices(SYMBOLS, weights, k=count)


def expected_ids(count: int, seed: int = 1) -> Mapping[str, range]:
    """Return the ids of each symbol in so many `trades`."""
    _, names = _opening(random.Random(seed), count)
    return {name: range(LAST_ID + 1, LAST_ID + 1 + times) for name, times in Counter(names).items()}


def prefill(settings: ServiceSettings, count: int, partitions: int, progress: Progress, *, keyed: bool = False) -> int:
    """Create the topics and write trades to them, with the symbol as key if asked; returns the bytes of the values."""
    KafkaAdmin(settings).ensure_topics({TOPIC: partitions, dead_letter_topic(TOPIC): DEAD_LETTER_PARTITIONS})
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    where = {name: partition_of(Symbol(name), partitions) for name in SYMBOLS}
    size = 0
    for number, (name, value) in enumerate(trades(count)):
        size += len(value)
        while True:
            try:
                producer.produce(TOPIC, value=value, key=name if keyed else None, partition=where[name])
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
        if number and number % 500_000 == 0:
            progress(f"{number:,} of {count:,} trades written to the topic")
    producer.flush()
    return size


def write_pipeline(
    folder: Path, partitions: int, symbols: Mapping[str, str] | None = None, **spec: Mapping[str, float]
) -> Path:
    """Write a pipeline file for the topic and return its path; `symbols` are with their priorities."""
    named = [{"name": name, "priority": priority} for name, priority in (symbols or {SYMBOLS[0]: "normal"}).items()]
    source = {"name": "binance", "venue": "binance", "partitions": partitions, "symbols": named}
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "bench"},
        "spec": {"namespace": NAMESPACE, "ingestion": [source], **spec},
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
