"""`python -m k2_cli.controller`: decides level and number of sinks on a laptop. A process of `k2 up`.

It tells services through the control topic, and `k2 up`, which starts and stops sinks, through its figures. It may be
killed at any time: another one goes on from what stands in the topic. Told to stop, it has sinks put nothing off.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from typing import Final

from k2_core.config import ServiceSettings, read_settings
from k2_core.control_topic import ControlReader, ControlWriter
from k2_core.controller.look import Looker
from k2_core.controller.loop import Controller
from k2_core.controller.metrics import ControllerMetrics
from k2_core.controller.sight import Executor
from k2_core.errors import K2Error, RetryableError
from k2_core.exits import ExitStatus, last_word
from k2_core.health import HealthServer, Heartbeat
from k2_core.kafka import KafkaAdmin
from k2_core.logs import configure
from k2_core.metrics import new_registry
from k2_core.policy.configured import policy_config
from k2_core.spec import Pipeline, load_pipeline

LOOK_EVERY_S: Final = 1.0
"""As often as sinks tell their positions."""
START_TIMEOUT_S: Final = 60.0
RETRY_S: Final = 0.5
STARTING: Final = "found the controller starting, expected an answer of Kafka"

_log = logging.getLogger("k2_controller")


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    try:
        settings = read_settings(ServiceSettings)
        configure("k2-controller", settings.log_level)
        return _serve(settings)
    except K2Error as error:
        return last_word("k2-controller", error)


def _serve(settings: ServiceSettings) -> int:
    pipeline = load_pipeline(settings.pipeline_file)
    stop, heart = threading.Event(), Heartbeat()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    registry = new_registry("k2-controller")
    metrics = ControllerMetrics(registry)
    started: list[Controller] = []
    checks = {"control": lambda: started[0].trouble if started else STARTING}
    with HealthServer(settings.listen_host, settings.metrics_port, registry, checks, live={"loop": heart.check}):
        try:
            controller = _start(settings, pipeline, stop)
        except RetryableError:
            if not stop.is_set():
                raise
            return ExitStatus.DRAINED  # nothing was decided that is to be taken back
        started.append(controller)
        _log.info("deciding")
        try:
            _run(controller, pipeline, metrics, stop, heart)
        finally:
            controller.close()
    return ExitStatus.DRAINED


def _start(settings: ServiceSettings, pipeline: Pipeline, stop: threading.Event) -> Controller:
    """Return a controller once Kafka answers and the topics are there."""
    config = policy_config(pipeline.spec)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            KafkaAdmin(settings).ensure_topics(pipeline.trades_topics())
            writer = ControlWriter(settings, pipeline.control_name)
            reader = ControlReader(settings, pipeline.control_name)
            return Controller(config, Looker(settings, pipeline), reader, writer)
        except RetryableError as error:
            if time.monotonic() > deadline_s or stop.wait(RETRY_S):
                raise
            _log.warning("start: will be tried again", extra={"error": str(error)})


def _run(
    controller: Controller, pipeline: Pipeline, metrics: ControllerMetrics, stop: threading.Event, heart: Heartbeat
) -> None:
    sinks = controller.asked_for or pipeline.spec.sink.replicas
    while not stop.is_set():
        heart.beat()
        began_s = time.monotonic()
        tick = controller.tick(Executor(sinks))
        sinks = tick.decision.replicas.applied or sinks
        metrics.show(tick)
        if tick.told:
            level = tick.decision.level
            _log.info("told", extra={"level": int(level.applied), "why": str(level.why), "sinks": sinks})
        stop.wait(max(0.0, LOOK_EVERY_S - (time.monotonic() - began_s)))
    # It is only told to stop with the whole pipeline: sinks are to bring in what they put off before they end.
    metrics.show(controller.tick(Executor(sinks, stopping=True)))


if __name__ == "__main__":
    sys.exit(main())
