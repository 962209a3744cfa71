"""A slow sink goes through all levels and back one by one, and sink and controller are killed at each.

Both are started again by the test, so that no supervisor's limit is in the way. Load is what a level needs (`Backlog`):
each is entered, kept and left by unread records alone. The oracle is the log itself, every record of it with content.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from committed import check_ids
from confluent_kafka import Consumer, TopicPartition
from load import Load, Market

from k2_cli.stack.kafka import LocalKafka
from k2_core.control import CONTROL_TOPIC, Command, command_key
from k2_core.kafka import client_config
from k2_core.spec import load_pipeline
from k2_core.topics import partition_of
from k2_core.types import Level, Partition, Symbol
from support.backlog import Backlog, Band
from support.contents import check_same, log_contents, log_ends, table_contents
from support.controller_process import LOOKED, ControllerProcess
from support.lake import committed_state, table_rows
from support.scrapes import scraping
from support.sink import SinkProcess, SinkWorkspace
from support.throttle import throttled
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.levels, pytest.mark.timeout(900)]

CRITICAL: Final = ("BTCUSDT", "SOLUSDT")
NORMAL: Final = "ETHUSDT"
LOW: Final = ("BNBUSDT", "ADAUSDT")
PRIORITIES: Final = dict.fromkeys(CRITICAL, "critical") | {NORMAL: "normal"} | dict.fromkeys(LOW, "low")
ROUND: Final = tuple(map(Symbol, (*CRITICAL, NORMAL, *CRITICAL, LOW[0], NORMAL, *CRITICAL, LOW[1])))
"""Most is critical: what level 3 takes in must be enough for level 4, as what it only puts off does not count."""
PARTITIONS: Final = 5
"""One holds critical and low, one critical alone, one normal and low: at level 3 all of that one waits."""
IN_USE: Final = {partition_of(symbol, PARTITIONS) for symbol in ROUND}
PUT_OFF: Final[Mapping[int, frozenset[str]]] = {
    0: frozenset(),
    1: frozenset(),
    2: frozenset(LOW),
    3: frozenset((*LOW, NORMAL)),
    4: frozenset(PRIORITIES),
}
ENTER: Final = {1: 4_000, 2: 8_000, 3: 16_000, 4: 40_000}
BANDS: Final = {level: Band(ENTER.get(level, 500), int(0.65 * ENTER[level + 1])) for level in range(3)} | {
    3: Band(16_000, 18_000),  # far below level 4's exit: a trial may be under way when the sink is killed
    4: Band(80_000, 80_000),
}
"""Unread records at which a level is entered from below, is left from above for it, and stays: the next one's exit is
at 0.7. What a killed sink had read and not committed is unread again, and enters nothing either."""
RUNS_S, STANDS_S = 0.1, 0.4
COMMIT_RECORDS: Final = 1_000
"""As few as may be, so that what a sink takes in a turn lies within a band."""
LOOKS: Final = 3
"""The first of a controller knows no rates, and decides nothing."""
DWELL_UP_S, DWELL_DOWN_S = 1, 3
NEVER_S: Final = 600
PATIENCE_S: Final = 180.0


def degradation(dwell_down_s: int) -> dict[str, Any]:
    names = dict(zip(ENTER, ("soft", "graceful", "aggressive", "circuitBreak"), strict=True))
    levels: dict[str, dict[str, int]] = {names[one]: {"enterUnreadRecords": entry} for one, entry in ENTER.items()}
    for number, name in enumerate(("soft", "graceful", "aggressive")):  # the time that a process takes enters none
        levels[name]["enterAgeSeconds"] = 10_000 * 2**number
    return {
        "mode": "Auto",
        "levels": levels,
        "dwellUpSeconds": DWELL_UP_S,
        "dwellDownSeconds": dwell_down_s,
        "drainingWithinSeconds": 1,
        "probeSeconds": 2,
        "forecastHorizonSeconds": 0,
        "rebalanceGraceSeconds": 0,
        "watchMemory": False,
        "rawFilesBelowRetentionHours": 0,  # each would be an entry of the ledger, in the state of every commit
    }


class Decisions:
    """Every level that was commanded, by whichever controller, in order."""

    def __init__(self, work: SinkWorkspace, pipeline: str) -> None:
        self._key = command_key(pipeline)
        settings = client_config(work.settings, group_id="test", enable_auto_commit=False)
        self._consumer = Consumer(settings)
        self._next, self._levels = 0, list[int]()

    def levels(self) -> list[int]:
        """Return them up to now, each change once."""
        _, end = self._consumer.get_watermark_offsets(TopicPartition(CONTROL_TOPIC, 0), timeout=20)
        if self._next < end:
            self._consumer.assign([TopicPartition(CONTROL_TOPIC, 0, self._next)])
        while self._next < end:
            for message in self._consumer.consume(1_000, 1):
                assert message.error() is None, message.error()
                self._next = (message.offset() or 0) + 1
                if message.key() == self._key and (value := message.value()) is not None:
                    level = int(Command.parse(value).level)
                    self._levels += [level] if self._levels[-1:] != [level] else []
        return list(self._levels)

    def close(self) -> None:
        self._consumer.close()


@dataclass
class Storm:
    """A pipeline with one sink and one controller, and what is done to them."""

    work: SinkWorkspace
    backlog: Backlog
    decisions: Decisions
    dwell_down_s: int = NEVER_S
    controllers: list[ControllerProcess] = field(default_factory=list)

    @property
    def sink(self) -> SinkProcess:
        return self.work.sinks[-1]

    def level(self) -> int | None:
        levels = self.decisions.levels()
        return levels[-1] if levels else None

    def slow(self) -> AbstractContextManager[None]:
        """Slow down the sink of the moment, once it has begun to work."""

        def send(number: signal.Signals) -> None:
            if (sink := self.sink).said("partitions taken"):
                sink.signal(number)

        return throttled(send, RUNS_S, STANDS_S)

    def start_sink(self) -> None:
        self.work.start().wait_said("partitions taken")

    def start_controller(self) -> None:
        self.work.spec = {"degradation": degradation(self.dwell_down_s)}
        log = self.work.folder / f"controller-{len(self.controllers)}.log"
        self.controllers.append(ControllerProcess(self.work.environment(), log, LOOKS, PATIENCE_S))

    def reached(self, level: int) -> None:
        """Wait until a level is decided, and the sink acts on it."""
        wait_until(lambda: self.level() == level, f"level {level} to be decided", PATIENCE_S)
        wait_until(lambda: acted(self.sink)[-1:] == [level], f"the sink to act on level {level}", PATIENCE_S)

    def kill_controller(self, level: int) -> None:
        """The next one goes on from what the dead one knew: it commands nothing, as there is nothing new."""
        self.controllers[-1].kill()
        before = self.decisions.levels()
        self.start_controller()
        assert self.controllers[-1].shown.figure("k2_controller_level") == level
        assert (before[-1], self.decisions.levels()) == (level, before)

    def let_levels_fall(self) -> None:
        """Kill the controller, and start one that reads another dwell in the pipeline's file."""
        self.dwell_down_s = DWELL_DOWN_S
        self.controllers[-1].kill()
        self.start_controller()

    def kill_sink(self, level: int) -> None:
        """The next one goes on at the level at work: nothing that waits at it is in the table after the kill."""
        self.sink.kill()
        before = rows(self.work)
        positions = where(self.work)
        self.start_sink()
        if level == Level.CIRCUIT_BREAK:
            self._stands_still()
        else:
            wait_until(lambda: moved_on(positions, where(self.work)), "the log to be passed by", PATIENCE_S)
        after = rows(self.work)
        grown = {symbol for symbol, count in after.items() if count > before.get(symbol, 0)}
        assert grown == PRIORITIES.keys() - PUT_OFF[level], f"level {level}: {before} became {after}"
        if level < Level.CIRCUIT_BREAK:
            assert owed_symbols(self.work) >= PUT_OFF[level]
        assert acted(self.sink) == ([level] if level else []), "the levels of a sink that was started again"

    def _stands_still(self) -> None:
        """Let the log grow, and see that a sink that speaks after that has read none of it."""
        wait_until(lambda: acted(self.sink), "the sink to act on level 4")
        self.backlog.keep(None)
        wait_until(lambda: self.backlog.written, "the log to grow")
        self.backlog.write(COMMIT_RECORDS)
        wait_until(lambda: self.backlog.written, "the log to grow")
        now = datetime.now(UTC)
        later = wait_until(lambda: [one for one in self.backlog.reports() if one.at > now], "the sink to say something")
        (report,) = later
        assert (report.level, report.accepted, report.shed) == (Level.CIRCUIT_BREAK, 0, 0)

    def let_down_to(self, level: int) -> None:
        """Take the slowness away until the sink has read so much that a level may be left for this one."""
        self.backlog.keep(None)
        wait_until(lambda: self.backlog.unread() < BANDS[level].most, f"the backlog of level {level}", PATIENCE_S)
        shown = self.controllers[-1].shown
        looks = shown.figure(LOOKED)  # one that is under way may yet take a trial back
        wait_until(lambda: shown.figure(LOOKED) >= looks + 2, "the controller to see it")

    def kill_both(self, level: int) -> None:
        order = (self.kill_sink, self.kill_controller) if level % 2 else (self.kill_controller, self.kill_sink)
        sys.stdout.write(f"level {level}: {', then '.join(one.__name__ for one in order)}\n")
        for kill in order:
            kill(level)


def acted(sink: SinkProcess) -> list[int]:
    """The levels that a sink took up, in order."""
    return [int(line["to_level"]) for line in sink.said("level changed")]


def rows(work: SinkWorkspace) -> dict[str, int]:
    counts = table_rows(work.settings, work.namespace).column("symbol").value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in counts}


def where(work: SinkWorkspace) -> dict[Partition, int]:
    """Where the table stands in each partition."""
    state = committed_state(work.settings, work.namespace)
    found = None if state is None else state.topics.get(work.topic)
    return {} if found is None else {number: at.next for number, at in found.partitions.items()}


def moved_on(before: Mapping[Partition, int], now: Mapping[Partition, int]) -> bool:
    """Whether so much was passed of each partition in use that each of its symbols is among it."""
    return all(now.get(number, 0) - before.get(number, 0) >= len(ROUND) for number in IN_USE)


def owed_symbols(work: SinkWorkspace) -> set[str]:
    state = committed_state(work.settings, work.namespace)
    assert state is not None
    return {symbol for entry in state.open_ledger for symbol in entry.symbols}


def steps(sink: SinkProcess) -> list[tuple[int, int]]:
    """From which level to which a sink went, one after the other."""
    return [(int(line["from_level"]), int(line["to_level"])) for line in sink.said("level changed")]


@contextmanager
def storm_on(kafka: LocalKafka, folder: Path) -> Iterator[tuple[Storm, Load]]:
    work = SinkWorkspace(
        kafka.bootstrap_servers,
        folder,
        partitions=PARTITIONS,
        priorities=PRIORITIES,
        sink={"commitIntervalSeconds": 1, "commitRecords": COMMIT_RECORDS},
        spec={"degradation": degradation(NEVER_S)},
    )
    work.environment()
    pipeline = load_pipeline(folder / "pipeline.yaml")
    with (
        Load(work.settings, Market(work.topic, PARTITIONS, ROUND)) as load,
        Backlog(work.admin, work.topic, PARTITIONS, pipeline.sink_group, load) as backlog,
        closing(Decisions(work, pipeline.control_name)) as decisions,
    ):
        storm = Storm(work, backlog, decisions)
        try:
            yield storm, load
        finally:
            work.close()
            for one in storm.controllers:
                one.kill()


def test_sink_and_controller_are_killed_at_each_level(kafka: LocalKafka, tmp_path: Path) -> None:
    def metrics() -> dict[str, str]:
        ready = storm.sink.said("sink ready")
        return {"sink": f"http://127.0.0.1:{ready[0]['metrics_port']}"} if ready else {}

    with storm_on(kafka, tmp_path) as (storm, load):
        storm.start_sink()
        with scraping(metrics) as scrapes:
            with storm.slow():
                storm.start_controller()
                for level in (1, 2, 3, 4):
                    storm.backlog.keep(BANDS[level])
                    storm.reached(level)
                    storm.kill_both(level)
            # Up to here no level fell by itself.
            storm.let_levels_fall()
            for level in (3, 2, 1, 0):
                storm.let_down_to(level)
                with storm.slow():
                    storm.backlog.keep(BANDS[level])
                    storm.reached(level)
                    storm.kill_both(level)
            storm.backlog.keep(None)
            wait_until(lambda: storm.backlog.written, "all to be written")
            storm.work.wait_committed(load.sent)
            wait_until(lambda: storm.work.owed() == 0, "the ledger to be empty", PATIENCE_S)
        assert storm.sink.terminate() == 0
        assert storm.controllers[-1].terminate() == 0
        log, expected = log_contents(kafka.bootstrap_servers, storm.work.topic), load.expected()
        path, work = storm.decisions.levels(), storm.work
    table = table_contents(work.settings, work.namespace, log_ends(log))
    check_same(table, log)
    check_ids(table, expected)
    assert rows(work) == {symbol: len(ids) for symbol, ids in expected.items()}
    assert path[:5] == [0, 1, 2, 3, 4], path
    assert path[-5:] == [4, 3, 2, 1, 0], path
    assert set(path[5:-5]) <= {3, 4}, path  # trials that were taken back
    seen = [step for sink in work.sinks for step in steps(sink)]
    assert {(0, 1), (1, 2), (2, 3), (3, 4), (4, 3), (3, 2), (2, 1), (1, 0)} <= set(seen), seen
    assert all(before - after <= 1 for before, after in seen), seen
    assert not [line for sink in work.sinks for line in sink.said("dropped")]
    assert scrapes.unbalanced == []
    assert scrapes.balanced > 10
    assert scrapes.levels == {0, 1, 2, 3, 4}
    assert "deferred" in scrapes.accounts
