"""Trades written to a topic at a rate that can be changed, from a process of its own; for benchmarks and tests."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from confluent_kafka import Producer

from k2_core.config import ServiceSettings
from k2_core.topics import partition_of
from k2_core.types import Symbol, TopicName
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.trade import Trade

TICK_S: Final = 0.01
FULL_SPEED: Final = 1e9
_RATE, _MOST, _SENT = range(3)
"""What both processes know: records a second, how many in all at most, and how many Kafka has acknowledged."""
_FIGURES: Final = 3
_Known = np.memmap[Any, np.dtype[np.float64]]


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
        self._market = market
        self._client = {"bootstrap.servers": settings.kafka_bootstrap_servers}
        self._folder = tempfile.TemporaryDirectory(prefix="k2-load-")
        self._known = _known(Path(self._folder.name), "w+")

    def __enter__(self) -> Load:
        asked = json.dumps([self._client, asdict(self._market)])
        self._process = subprocess.Popen([sys.executable, __file__, self._folder.name, asked])
        return self

    def __exit__(self, *_: object) -> None:
        self._known[_RATE] = -1.0
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            self._folder.cleanup()

    @property
    def sent(self) -> int:
        """How many trades Kafka has acknowledged."""
        return int(self._known[_SENT])

    def offer(self, per_s: float) -> None:
        """Write so many trades a second from now on, without an end."""
        self._known[_MOST] = 2**53
        self._known[_RATE] = per_s

    def burst(self, count: int) -> None:
        """Write so many trades as fast as it goes, then none."""
        self._known[_MOST] = self.sent + count
        self._known[_RATE] = FULL_SPEED

    def expected(self) -> Mapping[str, range]:
        """Return the ids of each symbol after what was sent; only while nothing is offered."""
        counts = dict.fromkeys(self._market.round_of, 0)
        full, rest = divmod(self.sent, len(self._market.round_of))
        for number, symbol in enumerate(self._market.round_of):
            counts[symbol] += full + (number < rest)
        return {symbol: range(1, count + 1) for symbol, count in counts.items()}


def _known(folder: Path, mode: Literal["r+", "w+"]) -> _Known:
    return np.memmap(folder / "known", np.float64, mode, shape=(_FIGURES,))


def _produce(client: dict[str, Any], market: Market, known: _Known) -> None:
    client |= {"enable.idempotence": True, "compression.type": "lz4", "linger.ms": 5}
    producer = Producer(client | {"queue.buffering.max.messages": 500_000})
    encoders = {one: TradeEncoder(Identity("binance", "spot", "crypto", one)) for one in set(market.round_of)}
    where = {symbol: partition_of(symbol, market.partitions) for symbol in encoders}
    ids = {symbol: itertools.count(1) for symbol in encoders}
    symbols, made, due, began_s = itertools.cycle(market.round_of), 0, 0.0, time.monotonic()
    parent = os.getppid()
    while (rate := float(known[_RATE])) >= 0 and os.getppid() == parent:
        now_s = time.monotonic()
        due, began_s = due + rate * (now_s - began_s), now_s
        count = int(min(due, known[_MOST] - made, 5_000))
        due = 0.0 if rate in (0.0, FULL_SPEED) else due - count
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
        known[_SENT] = made - len(producer)
        if count < 5_000:
            time.sleep(TICK_S)
    producer.flush()
    known[_SENT] = made


if __name__ == "__main__":
    _client, _market = json.loads(sys.argv[2])
    _produce(_client, Market(**_market), _known(Path(sys.argv[1]), "r+"))
