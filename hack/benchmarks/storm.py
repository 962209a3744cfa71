"""A storm: twice the load that a sink can take, and no room for a second one. What is decided when, and who suffers.

The sink's process is stopped most of the time, so that its limit lies within what this machine can offer; what it takes
then is measured first, at level 0. The controller is the one of `k2 up`, with the spec's own thresholds. It asks for
more sinks and none comes, as in a cluster without room, so that levels alone must bear the load. When a record was
committed is the time of the first snapshot that has its offset behind `next`, and its age then counts from its receive
timestamp: both are in the table. In the end all that was deferred must have come back, each id once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from committed import Commit, check_ids, commits_of, committed_s
from figures import Figure, at_least, at_most
from load import Load, Market
from workload import Progress

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import SetupError
from k2_core.types import Symbol
from support.controller_process import Controller, ControllerProcess
from support.lake import committed_state, trades_table
from support.sink import SinkProcess, SinkWorkspace
from support.throttle import throttled
from support.waiting import wait_until

CRITICAL: Final = ("BTCUSDT",)
NORMAL: Final = ("ETHUSDT", "SOLUSDT")
LOW: Final = ("XRPUSDT", "ADAUSDT")
PRIORITIES: Final = dict.fromkeys(CRITICAL, "critical") | dict.fromkeys(NORMAL, "normal") | dict.fromkeys(LOW, "low")
ROUND: Final = tuple(Symbol(name) for name in (*CRITICAL, *LOW, *NORMAL, *LOW, NORMAL[0], *LOW))
"""A tenth is critical, three tenths are normal."""
PARTITIONS: Final = 4
RUNS_S, PERIOD_S = 0.01, 0.1
"""The sink's process runs for so long of each period."""
CALIBRATION: Final = 1_500_000
LEAST_COMMITS: Final = 4
CALM_S, STORM_S = 30.0, 120.0
CALM, STORM = 0.5, 2.0
"""Offered load as a share of what the sink can take."""
COMMIT_INTERVAL_S: Final = 10
DWELL_DOWN_S: Final = 120
"""Instead of 3 minutes, so that the way back is shorter; as long as the storm, in which no recovery is to be tried."""
PATIENCE_S: Final = 900.0
SINKS: Final = 'k2_controller_sinks{is="wanted"}'


@dataclass(frozen=True, slots=True)
class Storm:
    """When it began and ended, in seconds of the epoch."""

    began_s: float
    ended_s: float


def run(progress: Progress) -> list[Figure]:
    """Measure what the sink takes, then offer twice that."""
    with tempfile.TemporaryDirectory(prefix="k2-bench-") as name, LocalKafka(Path(name)) as kafka:
        work = SinkWorkspace(
            kafka.bootstrap_servers,
            Path(name),
            partitions=PARTITIONS,
            priorities=PRIORITIES,
            sink={"commitIntervalSeconds": COMMIT_INTERVAL_S},
            spec={
                "degradation": {
                    "mode": "Auto",
                    "dwellDownSeconds": DWELL_DOWN_S,
                    "drainRecordsPerSecond": 1_000_000,
                    # As with a log that keeps a week: the 2 GiB a partition of this broker last half an hour here.
                    "rawFilesBelowRetentionHours": 0,
                },
                "scaling": {"mode": "Auto", "maxReplicas": PARTITIONS},
            },
        )
        try:
            with Load(work.settings, Market(work.topic, PARTITIONS, ROUND)) as load:
                return _storm(work, load, progress)
        finally:
            work.close()


def _storm(work: SinkWorkspace, load: Load, progress: Progress) -> list[Figure]:
    sink = work.start()
    sink.wait_said("partitions taken")
    with throttled(sink.signal, RUNS_S, PERIOD_S - RUNS_S):
        takes = _takes(work, load)
        progress(f"stopped {1 - RUNS_S / PERIOD_S:.0%} of the time, the sink takes {takes:,.0f} records/s at level 0")
        load.offer(CALM * takes)  # before the controller looks: a load that comes from nothing is a burst to it, too
        with _controller(work) as controller:
            time.sleep(CALM_S)
            calm, sinks = controller.figure("k2_controller_level"), controller.figure(SINKS)
            progress(f"at half of that it is at level {calm:.0f} with {sinks:.0f} sinks asked for")
            began_s, before = time.time(), load.sent
            load.offer(STORM * takes)
            asked_s = _seconds_until(lambda: controller.figure(SINKS) > sinks, began_s)
            time.sleep(max(0.0, began_s + STORM_S - time.time()))
            offered = (load.sent - before) / (time.time() - began_s)
            load.offer(0)
            storm = Storm(began_s, time.time())
            progress(f"offered {offered:,.0f} records/s for {STORM_S:.0f} s")
            levels = _levels(sink, storm)
            progress("levels of the sink: " + ", ".join(f"{level} after {at_s:.1f} s" for at_s, level in levels))
            _wait(lambda: controller.figure("k2_controller_level") == 0 and not _open(work, load), "all to come back")
            back_s = time.time() - storm.ended_s
    if sink.terminate() != 0:
        raise SetupError("the sink did not drain")
    committed, ages = _critical(work, storm)
    _check(work, load)
    return [
        at_most("storm", "level at half of what the sink can take", calm, "level", 0),
        at_most("storm", "spike to the sink acting on a level", acted_s(levels, calm), "s", 5),
        at_most("storm", "spike to more sinks asked for", asked_s, "s", 30),
        at_least(
            "storm", "critical committed, of what was offered until 2 intervals before the end", committed, "%", 99.9
        ),
        at_most("storm", "committed age of critical, p99", float(np.percentile(ages, 99)), "s", 2 * COMMIT_INTERVAL_S),
        Figure("storm", "committed age of critical, p50", float(np.median(ages)), "s"),
        Figure("storm", "highest level of the sink", max(level for _, level in levels), "level"),
        Figure("storm", "offered, of what the sink can take", offered / takes, "ratio"),
        Figure("storm", "end of the storm to level 0 with nothing owed", back_s, "s"),
    ]


def _takes(work: SinkWorkspace, load: Load) -> float:
    """Return how many records a second the sink takes of a backlog.

    From its first commit to its last but one: before, it starts, and after, the end of the log waits for the interval.
    """
    load.burst(CALIBRATION)
    wait_until(lambda: work.committed() >= CALIBRATION, "the sink to take the backlog", PATIENCE_S)
    commits = [(at_s, sum(one.next for one in ends.values())) for at_s, ends in _commits(work)]
    if len(commits) < LEAST_COMMITS:
        raise SetupError(f"found {len(commits)} commits of the backlog, expected at least {LEAST_COMMITS}")
    (first_s, first), (last_s, last) = commits[0], commits[-2]
    return (last - first) / (last_s - first_s)


def _commits(work: SinkWorkspace) -> list[Commit]:
    table = trades_table(work.settings, work.namespace)
    assert table is not None
    return commits_of(table, work.topic)


@contextmanager
def _controller(work: SinkWorkspace) -> Iterator[Controller]:
    process = ControllerProcess(work.environment(), work.folder / "controller.log", timeout_s=PATIENCE_S)
    try:
        yield process.shown
    finally:
        process.terminate()


def acted_s(levels: Sequence[tuple[float, int]], calm: float) -> float:
    """Return how many seconds into the storm the sink first rose above its level in the calm.

    Raises:
        SetupError: It never did: then nothing was decided, or the storm was none.
    """
    rises_s = [at_s for at_s, level in levels if level > calm]
    if not rises_s:
        raise SetupError(
            f"the sink acted on the levels {[level for _, level in levels]}, expected one above {calm:.0f}"
        )
    return rises_s[0]


def _levels(sink: SinkProcess, storm: Storm) -> list[tuple[float, int]]:
    """Return (seconds after the beginning, level) for each change that the sink acted on in the storm."""
    told = [(datetime.fromisoformat(line["time"]).timestamp(), line["to_level"]) for line in sink.said("level changed")]
    return [(at_s - storm.began_s, level) for at_s, level in told if storm.began_s <= at_s <= storm.ended_s]


def _open(work: SinkWorkspace, load: Load) -> bool:
    """Whether something is owed or not committed yet."""
    return work.owed() > 0 or work.committed() < load.sent


def _critical(work: SinkWorkspace, storm: Storm) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the share in percent of the critical trades that were committed in time, and their ages in seconds."""
    rows = _rows(work).filter(pc.field("symbol").isin(CRITICAL))
    received_s = rows.column("receive_timestamp").cast(pa.int64()).to_numpy() / 1e6
    where = (rows.column(name).to_numpy() for name in ("kafka_partition", "kafka_offset"))
    taken_s = committed_s(_commits(work), *where)
    offered = (received_s >= storm.began_s) & (received_s <= storm.ended_s)
    due = offered & (received_s <= storm.ended_s - 2 * COMMIT_INTERVAL_S)
    return 100 * float(np.mean(taken_s[due] <= storm.ended_s)), (taken_s - received_s)[offered]


def _rows(work: SinkWorkspace) -> pa.Table:
    table = trades_table(work.settings, work.namespace)
    assert table is not None
    fields = ("symbol", "trade_id", "receive_timestamp", "kafka_partition", "kafka_offset")
    return table.scan(selected_fields=fields).to_arrow()


def _check(work: SinkWorkspace, load: Load) -> None:
    """Check that each id of each symbol is in the table once, and that nothing is owed."""
    check_ids(_rows(work), load.expected())
    state = committed_state(work.settings, work.namespace)
    if state is None or state.open_ledger:
        raise SetupError("found an open ledger after the storm, expected none")


def _seconds_until(condition: Callable[[], bool], began_s: float) -> float:
    _wait(condition, "a decision")
    return time.time() - began_s


def _wait(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, PATIENCE_S)
