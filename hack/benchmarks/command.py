"""From a person's word on the level to the services acting on it, under a load.

As `k2 level --set` does, an override is written to the control topic, again and again at moments that fall anywhere in
the services' rounds. A sink has acted when it logs that its level changed, by its own clock, which is this machine's;
a query service when an answer of `/v1/trades` says what the level means for it. Each counts from the moment before the
record was written, so that Kafka's acknowledgement is in it.

Called by the runner (`hack/bench command`) with a function to report progress to.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from figures import Figure, at_most
from load import Load, Market
from window import service
from workload import Progress

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from k2_cli.stack.kafka import LocalKafka
from k2_core.control import Override
from k2_core.control_topic import ControlWriter
from k2_core.errors import SetupError
from k2_core.spec import load_pipeline
from k2_core.types import Level, Symbol
from k2_query.settings import DEVELOPMENT_KEY
from support.sink import SinkProcess, SinkWorkspace
from support.waiting import wait_until

LEVELS: Final = (Level.GRACEFUL, Level.AGGRESSIVE)
"""In turns. Both put something off, so that the sink has to change what it does, and an answer names each."""
CHANGES: Final = 100
LOAD_PER_S: Final = 5_000
COMMIT_INTERVAL_S: Final = 1
"""A sink that commits reads no command: the moments are to fall into commits, too."""
PAUSES_S: Final = (0.2, 1.2)
ASK_EVERY_S: Final = 0.01
TARGET_S: Final = 1.0
PARTITIONS: Final = 4
PRIORITIES: Final = {"BTCUSDT": "critical", "ETHUSDT": "normal", "XRPUSDT": "low"}
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Acted:
    """One command: seconds until the sink and an answer of the query service went by it."""

    sink_s: float
    query_s: float


def run(progress: Progress) -> list[Figure]:
    """Start a sink and a query service on a log that grows, then command them."""
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as name, LocalKafka(Path(name)) as kafka:
        work = SinkWorkspace(
            kafka.bootstrap_servers,
            Path(name),
            partitions=PARTITIONS,
            priorities=PRIORITIES,
            sink={"commitIntervalSeconds": COMMIT_INTERVAL_S},
            spec={"degradation": {"rawFilesBelowRetentionHours": 0}},
        )
        try:
            with Load(work.settings, Market(work.topic, PARTITIONS, tuple(map(Symbol, PRIORITIES)))) as load:
                acted = list(_commanded(work, load, progress))
        finally:
            work.close()
    return figures(acted)


def figures(acted: Sequence[Acted]) -> list[Figure]:
    """Return the figures of both services."""
    made = []
    for service_, times_s in (
        ("sink", [one.sink_s for one in acted]),
        ("query", [one.query_s for one in acted]),
    ):
        what = f"a level's record to the {service_} acting on it"
        made.append(at_most("command", f"{what}, p99", float(np.percentile(times_s, 99)), "s", TARGET_S))
        made.append(Figure("command", f"{what}, p50", float(np.median(times_s)), "s"))
    return made


def _commanded(work: SinkWorkspace, load: Load, progress: Progress) -> Iterator[Acted]:
    sink = work.start()
    sink.wait_said("partitions taken")
    load.offer(LOAD_PER_S)
    wait_until(lambda: work.committed() > LOAD_PER_S, "the sink to commit", PATIENCE_S)
    environment = os.environ | work.environment(K2_EMBEDDED="true", K2_PORT="0")
    pipeline = load_pipeline(work.folder / "pipeline.yaml")
    writer = ControlWriter(work.settings, pipeline.control_name)
    pauses = random.Random(1)  # moments, the same in each run
    with service(environment, work.folder) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        progress(f"{CHANGES} commands at {LOAD_PER_S:,} records/s, with a commit each {COMMIT_INTERVAL_S} s")
        for number in range(CHANGES):
            time.sleep(pauses.uniform(*PAUSES_S))
            level, now = LEVELS[number % len(LEVELS)], datetime.now(UTC)
            began_s = time.time()
            writer.override(Override(level, "bench", "bench", now, now + timedelta(hours=1)))
            query_s = _answered(client, level) - began_s
            wait_until(partial(_said, sink, number + 1), f"the sink to act on level {level:d}", PATIENCE_S)
            yield Acted(acted_at_s(sink.said("level changed"), number, level) - began_s, query_s)


def _said(sink: SinkProcess, count: int) -> bool:
    return len(sink.said("level changed")) >= count


def acted_at_s(said: Sequence[Mapping[str, Any]], number: int, level: Level) -> float:
    """Return when a sink acted on a command, in seconds of the epoch.

    Args:
        said: What it has logged of its changes.
        number: Of the command, from 0.
        level: What it said.

    Raises:
        SetupError: It went to another level, so that times and commands do not belong together.
    """
    if (found := said[number]["to_level"]) != level:
        raise SetupError(f"the sink's change {number + 1}: found level {found}, expected {level:d}")
    return datetime.fromisoformat(said[number]["time"]).timestamp()


def _answered(client: httpx.Client, level: Level) -> float:
    """Ask until an answer warns of the level; return when that was read, in seconds of the epoch."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        answer = client.get(
            "/v1/trades", params={"symbol": "BTCUSDT", "limit": 1}, headers={"X-API-Key": DEVELOPMENT_KEY}
        )
        at_s = time.time()
        warnings = answer.raise_for_status().json()["meta"]["warnings"]
        if any(text.startswith(f"level {level:d}:") for text in warnings):
            return at_s
        time.sleep(ASK_EVERY_S)
    raise SetupError(f"the query service's answers: found no warning of level {level:d}, expected one")
