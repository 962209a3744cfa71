"""Trades written to a topic at a rate that can be changed, from a process of its own; for `storm`."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from confluent_kafka import Producer

from k2_core.config import ServiceSettings
from k2_core.topics import partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.trade import Trade

TICK_S: Final = 0.01
FULL_SPEED: Final = 1e9
_SPAWN: Final = multiprocessing.get_context("spawn")  # a fork would copy threads' locks


@dataclass(frozen=True, slots=True)
class Market:
    """What is traded: as many places in the round as a symbol has weight; ids count from 1 without a gap."""

    topic: TopicName
    partitions: int
    round_of: Sequence[Symbol]


class Load:
    """A process that writes trades until the end of the block.

    Args:
        settings: Where Kafka is.
        market: What is traded.
    """

    def __init__(self, settings: ServiceSettings, market: Market) -> None:
        self._rate = _SPAWN.Value("d", 0.0)
        self._most = _SPAWN.Value("q", 0)
        self._sent = _SPAWN.Value("q", 0)
        self._market = market
        client = {"bootstrap.servers": settings.kafka_bootstrap_servers}
        self._process: SpawnProcess = _SPAWN.Process(
            target=_produce, args=(client, market, self._rate, self._most, self._sent), daemon=True
        )

    def __enter__(self) -> Load:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rate.value = -1.0
        self._process.join(30)
        self._process.kill()

    @property
    def sent(self) -> int:
        """How many trades Kafka has acknowledged."""
        return int(self._sent.value)

    def offer(self, per_s: float) -> None:
        """Write so many trades a second from now on, without an end."""
        self._most.value = 2**62
        self._rate.value = per_s

    def burst(self, count: int) -> None:
        """Write so many trades as fast as it goes, then none."""
        self._most.value = self.sent + count
        self._rate.value = FULL_SPEED

    def expected(self) -> Mapping[str, range]:
        """Return the ids of each symbol after what was sent; only while nothing is offered."""
        counts = dict.fromkeys(self._market.round_of, 0)
        full, rest = divmod(self.sent, len(self._market.round_of))
        for number, symbol in enumerate(self._market.round_of):
            counts[symbol] += full + (number < rest)
        return {symbol: range(1, count + 1) for symbol, count in counts.items()}


def _produce(client: dict[str, Any], market: Market, rate: Any, most: Any, sent: Any) -> None:
    client |= {"enable.idempotence": True, "compression.type": "lz4", "linger.ms": 5}
    producer = Producer(client | {"queue.buffering.max.messages": 500_000})
    encoders = {one: TradeEncoder(Identity("binance", "spot", "crypto", one)) for one in set(market.round_of)}
    where = {symbol: partition_of(symbol, market.partitions) for symbol in encoders}
    ids = {symbol: itertools.count(1) for symbol in encoders}
    symbols, made, due, began_s = itertools.cycle(market.round_of), 0, 0.0, time.monotonic()
    while rate.value >= 0:
        now_s = time.monotonic()
        due, began_s = due + rate.value * (now_s - began_s), now_s
        count = int(min(due, most.value - made, 5_000))
        due = 0.0 if rate.value in (0.0, FULL_SPEED) else due - count
        received_us = time.time_ns() // 1000
        for symbol in itertools.islice(symbols, count):
            number = next(ids[symbol])
            trade = Trade(symbol, number, False, 10**8 + number, 10**8, received_us, ())
            while True:
                try:
                    value = encoders[symbol].encode(trade, received_us)
                    producer.produce(market.topic, value=value, key=symbol.encode(), partition=where[symbol])
                    break
                except BufferError:
                    producer.poll(0.05)
        made += count
        producer.poll(0)
        sent.value = made - len(producer)
        if count < 5_000:
            time.sleep(TICK_S)
    producer.flush()
    sent.value = made
