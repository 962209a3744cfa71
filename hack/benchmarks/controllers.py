"""The operator's controllers beside a real Kafka: memory, threads and processor time of each, as their number grows.

Many pipelines of one Kafka share a topic, as their names alone tell controllers apart. What one costs is the difference
between all of them and the first, after a few turns each; the time of a turn is of all threads of the process, those of
the clients included.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from figures import Figure
from workload import Progress

from k2_cli.stack.kafka import LocalKafka
from k2_core.controller.sight import Executor
from k2_core.spec import KafkaSpec, Pipeline, parse_pipeline
from k2_operator.controllers import Charge, Controllers
from k2_operator.decided import Decided
from k2_operator.kafkas import Kafka, Kafkas
from k2_operator.store import Key

CONTROLLERS = 200
TURNS = 5
"""Of each, before memory is looked at: the first makes clients, the next ones fill what is kept between turns."""
STEADY_S = 30.0
PATIENCE_S = 300.0


class Turns:
    """Counts turns."""

    def __init__(self) -> None:
        self.of: Counter[Key] = Counter()

    def take(self, key: Key, decided: Decided | None, _: bool) -> None:
        """Count one."""
        self.of[key] += decided is not None and decided.seen

    async def reach(self, keys: list[Key], turns: int) -> None:
        """Wait until each pipeline had so many more."""
        wanted = {key: self.of[key] + turns for key in keys}
        async with asyncio.timeout(PATIENCE_S):
            while any(self.of[key] < count for key, count in wanted.items()):
                await asyncio.sleep(0.1)


def run(say: Progress) -> list[Figure]:
    """Start a Kafka, then one controller, then many, and return what each of them costs."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder)) as kafka:
        return asyncio.run(_measure(kafka.bootstrap_servers, say))


async def _measure(bootstrap_servers: str, say: Progress) -> list[Figure]:
    turns, kafkas = Turns(), Kafkas()
    one = kafkas.of(KafkaSpec(bootstrap_servers=bootstrap_servers, replication_factor=1), {})
    one.topics.ensure_topics(_pipeline(0).trades_topics())
    controllers, process = Controllers(turns.take), psutil.Process()
    task = asyncio.get_running_loop().create_task(controllers.run())
    try:
        await _begin(controllers, one, turns, range(1))
        first = _held(process)
        say(f"1 controller: {first[0]:.1f} MiB, {first[1]} threads")
        await _begin(controllers, one, turns, range(1, CONTROLLERS))
        many = _held(process)
        say(f"{CONTROLLERS} controllers: {many[0]:.1f} MiB, {many[1]} threads")
        begun, spent_s = turns.of.total(), time.process_time()
        await asyncio.sleep(STEADY_S)
        turn_ms = (time.process_time() - spent_s) * 1e3 / max(1, turns.of.total() - begun)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kafkas.close()
    more = CONTROLLERS - 1
    return [
        Figure("controllers", f"memory of each (USS), {CONTROLLERS} of them", (many[0] - first[0]) / more, "MiB"),
        Figure("controllers", "threads of each", (many[1] - first[1]) / more, ""),
        Figure("controllers", "threads in all", many[1], ""),
        Figure("controllers", "processor time of a turn", turn_ms, "ms"),
    ]


async def _begin(controllers: Controllers, one: Kafka, turns: Turns, numbers: range) -> None:
    keys = [Key("default", f"p{number}") for number in numbers]
    for key, number in zip(keys, numbers, strict=True):
        controllers.look_after(key, Charge(one, _pipeline(number), Executor(1)))
    await turns.reach(keys, TURNS)


def _pipeline(number: int) -> Pipeline:
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 4}
    spec = {"ingestion": [source], "degradation": {"mode": "Auto"}, "scaling": {"mode": "Auto"}}
    metadata = {"name": f"p{number}"}
    return parse_pipeline({"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": metadata, "spec": spec})


def _held(process: psutil.Process) -> tuple[float, int]:
    gc.collect()
    return process.memory_full_info().uss / 2**20, process.num_threads()
