"""`python -m k2_sink`: the sink as a process. SIGTERM drains, commits and exits 0."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from k2_core.config import read_settings
from k2_core.control_topic import ControlFollower
from k2_core.errors import K2Error, RetryableError
from k2_core.exits import ExitStatus, last_word
from k2_core.health import HealthServer, Heartbeat
from k2_core.kafka import KafkaAdmin
from k2_core.logs import configure
from k2_core.metrics import new_registry
from k2_core.own_level import OwnLevel
from k2_core.policy.configured import policy_config, priorities
from k2_core.records import TRADES
from k2_core.runtime import tune_for_batches
from k2_core.schemas import schema_source
from k2_core.spec import Pipeline, load_pipeline
from k2_core.tables import open_catalog
from k2_core.types import Level
from k2_sink.commit import Owner, TableWriter
from k2_sink.metrics import SinkMetrics
from k2_sink.parts import Parts
from k2_sink.service import Sink
from k2_sink.settings import SinkSettings
from k2_sink.telling import Telling

START_TIMEOUT_S: Final = 60.0
"""How long Kafka or the catalog may be away at the start, before the process ends to be started again."""
RETRY_AFTER_S: Final = 0.5
SETTLE_S: Final = 5.0
"""For the level to be known before the first record is read: a sink that is started again goes on at the level."""
STARTING: Final = "found the sink starting, expected an answer of Kafka and the catalog"

_log = logging.getLogger("k2_sink")


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status: 0 drained, 2 wrong settings, 3 cannot go on."""
    try:
        settings = read_settings(SinkSettings)
        configure("k2-sink", settings.log_level)
        return _serve(settings)
    except K2Error as error:
        return last_word("k2-sink", error)


def _serve(settings: SinkSettings) -> int:
    """Answer probes from the beginning, as a start may have to wait; then work."""
    tune_for_batches()
    pipeline = load_pipeline(settings.pipeline_file)
    stop, heart = threading.Event(), Heartbeat()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = new_registry("k2-sink")
    metrics = SinkMetrics(registry)
    started: list[Sink] = []
    ready = {"commit": lambda: started[0].trouble if started else STARTING}
    control = ControlFollower(settings, pipeline.control_name)
    # What stays owed keeps nobody from going on, nor does a level that stays: no reason to take a sink for unready.
    checks = ready | {"owed": lambda: started[0].drain.trouble if started else None}
    if pipeline.spec.decides:  # else there may be no control topic, and nothing is amiss
        checks |= {"control": lambda: control.trouble}
    live = {"loop": heart.check}
    with (
        control as follower,
        HealthServer(settings.listen_host, settings.metrics_port, registry, checks, live=live, ready=ready) as server,
    ):
        metrics.control_trouble.set_function(lambda: float(follower.trouble is not None))
        follower.settle(SETTLE_S)
        sink = _start(settings, pipeline, _Controls(metrics, stop, heart, follower))
        started.append(sink)
        _log.info("sink ready", extra={"metrics_port": server.port})
        wall_s, cpu_s = time.monotonic(), time.process_time()
        sink.run(stop)
        spent = {"wall_s": time.monotonic() - wall_s, "cpu_s": time.process_time() - cpu_s}
    _log.info("sink stopped", extra={**spent, "stage_cpu_s": metrics.stage_cpu_s()})
    return ExitStatus.DRAINED


@dataclass(frozen=True, slots=True)
class _Controls:
    """What a sink is watched and told by."""

    metrics: SinkMetrics
    stop: threading.Event
    heart: Heartbeat
    follower: ControlFollower


def _start(settings: SinkSettings, pipeline: Pipeline, controls: _Controls) -> Sink:
    """Return a sink once Kafka and the catalog answer."""
    heart, deadline_s = controls.heart, time.monotonic() + START_TIMEOUT_S
    while True:
        heart.beat()
        try:
            admin = KafkaAdmin(settings)
            owner = Owner(settings.pipeline_uid or pipeline.uid, admin.cluster_id())
            writer = TableWriter(open_catalog(settings), pipeline.spec.namespace, TRADES, owner, sleep=_rest(heart))
            controls.metrics.books.watch(writer)
            parts = Parts(settings, pipeline, schema_source(settings), admin, writer, controls.metrics, heart)
            return Sink(_controlled(parts, controls.follower))
        except RetryableError as error:
            if time.monotonic() > deadline_s or controls.stop.wait(RETRY_AFTER_S):
                raise
            _log.warning("start: will be tried again", extra={"error": str(error)})


def _controlled(parts: Parts, follower: ControlFollower) -> Parts:
    """Return parts that act on the greater of the commanded level and the one that this process' memory asks for."""
    spec = parts.pipeline.spec
    own = OwnLevel(policy_config(spec).degradation)

    def commanded() -> Level:
        command = follower.command()
        return Level.NORMAL if command is None else command.level

    def commit_interval_s() -> float | None:
        command = follower.command()
        return None if command is None else command.commit_interval_s

    return replace(
        parts,
        level=lambda: max(follower.level(), own.level()),
        priorities=priorities(spec),
        drain_records_per_s=spec.degradation.drain_records_per_second,
        commit_interval_s=commit_interval_s,
        telling=Telling(own.level, commanded=commanded),
    )


def _rest(heart: Heartbeat) -> Callable[[float], None]:
    """Return a way to wait between attempts that says that the loop goes round."""

    def rest(seconds: float) -> None:
        heart.beat()
        time.sleep(seconds)

    return rest


if __name__ == "__main__":
    sys.exit(main())
