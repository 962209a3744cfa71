"""The local stack of one pipeline: which processes it has, with which environment, started in which order.

Called by `k2_cli.up` and `k2_cli.replay`, which decide when. Supervision and stopping are the supervisor's.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from k2_cli.environment import reader_settings, service_environment
from k2_cli.folder import RunInfo, RunningProcess, StateFolder
from k2_cli.output import Say
from k2_cli.pipelines import exchanges
from k2_cli.source import Choice, Kind
from k2_cli.stack import ports
from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.process import ManagedProcess
from k2_cli.supervisor import Child, Supervisor
from k2_cli.units import KafkaUnit, ProcessUnit
from k2_core.config import ServiceSettings
from k2_core.errors import SetupError
from k2_core.spec import IngestionSpec, Pipeline

STAGE_INGEST, STAGE_SINK, STAGE_READERS, STAGE_KAFKA = range(4)
"""The order of stopping: nothing is stopped before what it feeds has taken everything in."""
INGEST_STOP_S: Final = 40.0
"""Above its flush timeout of 30 s."""
SINK_STOP_S: Final = 90.0
"""Above its drain timeout of 30 s and a slow commit."""
READER_STOP_S: Final = 10.0
KAFKA_TIMEOUT_S: Final = 10.0
CONTROLLER: Final = "controller"


@dataclass(frozen=True, slots=True)
class Exchange:
    """How K2's own exchange is started.

    Args:
        captures: What to replay; empty for synthetic trades.
        speed: Of captures: a multiple of the captured pace, 0 for full speed.
        rate: Of synthetic trades, a second.
        first_ids: Where synthetic ids go on, by symbol.
        close_at_end: Whether connections end with the capture.
    """

    captures: Sequence[Path] = ()
    speed: float = 0.0
    rate: float = 1_000.0
    first_ids: Mapping[str, int] = field(default_factory=dict)
    close_at_end: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """How one service is started and stopped.

    Args:
        name: Of the process and its log.
        module: What Python runs.
        stage: When it is stopped.
        stop_timeout_s: What it may take before it is killed.
        extra: Environment beyond what all services have.
        stopping: What it does when it stops, for people.
        may_end: Whether it ends by itself when it has done its work.
        url: Base of its `/metrics` if it serves them on its own port; None gives it a port for them.
    """

    name: str
    module: str
    stage: int
    stop_timeout_s: float
    extra: Mapping[str, str]
    stopping: str = "stopping"
    may_end: bool = False
    url: str | None = None


class LocalStack:
    """The processes of one pipeline on this machine.

    Args:
        pipeline: What runs; its file is written already.
        folder: The state folder, owned by this process.
        supervisor: Watches what is started here.
        port: Of the API; None takes the pipeline's, 0 any free one.
        say: Tells the user what takes seconds.
    """

    def __init__(
        self, pipeline: Pipeline, folder: StateFolder, supervisor: Supervisor, port: int | None, say: Say
    ) -> None:
        self.pipeline = pipeline
        self.metrics_urls: dict[str, str] = {}
        self._folder = folder
        self._supervisor = supervisor
        self._say = say
        self._kafka: LocalKafka | None = None
        self._ports: set[int] = set()
        self._environment: dict[str, str] = {}
        self._exchange_port = 0
        self._first_producer: Producer | None = None
        wanted = pipeline.spec.query.port if port is None else port
        self.api_port = wanted or self._free_port("api")
        self._ports.add(self.api_port)
        self._require_free(self.api_port)

    @property
    def api_url(self) -> str:
        """Base of the API."""
        return f"http://{ports.LOOPBACK}:{self.api_port}"

    @property
    def settings(self) -> ServiceSettings:
        """What the services know; valid once Kafka was started."""
        return reader_settings(self._environment)

    def start_kafka(self) -> None:
        """Start the local Kafka, unless the pipeline names another one.

        Raises:
            SetupError: It cannot be started.
            SpecError: The pipeline wants a secret that the environment lacks.
        """
        bootstrap = ""
        # Before the minutes that a first start may take: a missing secret is known at once.
        self._environment = self._service_environment("127.0.0.1:0")
        if self.pipeline.spec.kafka is None:
            self._kafka = LocalKafka(self._folder.root, progress=self._say)
            self._kafka.start()
            bootstrap = self._kafka.bootstrap_servers
            self._warm_up(bootstrap)
            self._supervisor.adopt(Child("kafka", KafkaUnit(self._kafka), STAGE_KAFKA, stopping="shutting down"))
        self._environment = self._service_environment(bootstrap)

    def _warm_up(self, bootstrap: str) -> None:
        """Have the broker fetch its first block of producer ids, in the background.

        The first idempotent producer after a broker's start is told to come again half a second later; now that is
        nobody's trade. The client connects only when it is asked something.
        """
        config = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0}
        self._first_producer = Producer(config)
        self._first_producer.list_topics(timeout=KAFKA_TIMEOUT_S)

    def _service_environment(self, bootstrap: str) -> dict[str, str]:
        return service_environment(self.pipeline, self._folder, bootstrap, self._folder.pipeline_file, os.environ)

    def start_sinks(self, more: Mapping[str, str] | None = None, stop_s: float = SINK_STOP_S) -> None:
        """Start the sinks.

        Args:
            more: Environment beyond the usual.
            stop_s: How long they may take to drain before they are killed.
        """
        for number in range(self.pipeline.spec.sink.replicas):
            self._start_sink(number, more or {}, stop_s)

    def _start_sink(self, number: int, more: Mapping[str, str], stop_s: float) -> None:
        draining = "reading to the end, committing"
        self._start(Service(f"sink-{number}", "k2_sink", STAGE_SINK, stop_s, more, draining))

    def scale_sinks(self, wanted: int) -> bool:
        """Start or retire sinks until there are as many as wanted; returns whether that changed anything.

        A number that still belongs to a sink on its way out is not given again before it is gone.
        """
        children = [child for child in self._supervisor.children if child.stage == STAGE_SINK]
        working = [child for child in children if not child.retiring]
        names = {child.name for child in children}
        free = (number for number in itertools.count() if f"sink-{number}" not in names)
        for number in itertools.islice(free, max(0, wanted - len(working))):
            self._start_sink(number, {}, SINK_STOP_S)
        for child in working[wanted:]:
            self._supervisor.retire(child.name, SINK_STOP_S)
            self.metrics_urls.pop(child.name, None)
        return wanted != len(working)

    def running_sinks(self) -> dict[str, str]:
        """Return where the sinks that run show their figures, by name."""
        children = [child for child in self._supervisor.children if child.stage == STAGE_SINK and child.unit.running]
        return {child.name: self.metrics_urls[child.name] for child in children if child.name in self.metrics_urls}

    def start_controller(self) -> None:
        """Start what decides the level and the number of sinks, unless the pipeline wants neither."""
        if self.pipeline.spec.decides:
            self._start(Service(CONTROLLER, "k2_cli.controller", STAGE_INGEST, READER_STOP_S, {}))

    def start_query(self) -> None:
        """Start the query service."""
        self._first_producer = None
        query = {"K2_PORT": str(self.api_port), "K2_EMBEDDED": "true"}
        self._start(Service("query", "k2_query", STAGE_READERS, READER_STOP_S, query, url=self.api_url))

    def choose_exchange(self) -> str:
        """Return the `host:port` that K2's own exchange will have: who connects to it need not wait for its start."""
        self._exchange_port = self._free_port("exchange")
        return f"{ports.LOOPBACK}:{self._exchange_port}"

    def start_exchange(self, exchange: Exchange) -> None:
        """Start K2's own exchange, on the port that was chosen."""
        options = ["--port", str(self._exchange_port), "--start-clients", str(len(exchanges(self.pipeline)))]
        options += ["--close-at-end"] if exchange.close_at_end else ["--keep-open"]
        if exchange.captures:
            options += [part for file in exchange.captures for part in ("--capture", str(file.absolute()))]
            options += ["--speed", f"{exchange.speed:g}", "--pass-malformed"]
        else:
            symbols = dict.fromkeys(name for source in exchanges(self.pipeline) for name in source.symbol_names)
            options += ["--symbols", ",".join(symbols), "--rate", f"{exchange.rate:g}"]
            options += [part for name, at in exchange.first_ids.items() for part in ("--first-id", f"{name}={at}")]
        command = [sys.executable, "-m", "k2_cli", "exchange", *options]
        process = self._process("exchange", command, dict(self._environment), READER_STOP_S)
        self._supervisor.start(Child("exchange", ProcessUnit(process), STAGE_READERS))

    def start_ingest(self, exchange: str | None, *, stop_at_end: bool = False) -> list[Child]:
        """Start one ingest for each source.

        Args:
            exchange: `host:port` of K2's own exchange, or None for the exchange that the pipeline names.
            stop_at_end: Whether they end with the replay, or when all files are in the log.
        """
        return [self._ingest(source, exchange, stop_at_end=stop_at_end) for source in self.pipeline.spec.ingestion]

    def _ingest(self, source: IngestionSpec, exchange: str | None, *, stop_at_end: bool) -> Child:
        extra = {"K2_INGEST_SOURCE": source.name}
        if exchange is not None and not source.reads_files:
            extra |= {"K2_INGEST_URL": f"ws://{exchange}", "K2_INGEST_REST_URL": f"http://{exchange}"}
        if stop_at_end:
            extra["K2_INGEST_STOP_AT_END"] = "true"
        name = f"ingest-{source.name}"
        return self._start(
            Service(name, "k2_ingest", STAGE_INGEST, INGEST_STOP_S, extra, "flushing", may_end=stop_at_end)
        )

    def write_run(self, choice: Choice) -> None:
        """Tell other commands what runs."""
        processes = tuple(
            RunningProcess(child.name, child.unit.process.pid, self.metrics_urls.get(child.name))
            for child in self._supervisor.children
            if isinstance(child.unit, ProcessUnit)
        )
        source = f"{choice.kind}: {choice.reason}"
        bootstrap = self._environment["K2_KAFKA_BOOTSTRAP_SERVERS"]
        self._folder.write_run(RunInfo(os.getpid(), _started_at(), bootstrap, self.api_url, source, processes))

    def _start(self, service: Service) -> Child:
        environment = {**self._environment, **service.extra}
        url = service.url
        if url is None:
            port = self._free_port(service.name)
            environment["K2_METRICS_PORT"] = str(port)
            url = f"http://{ports.LOOPBACK}:{port}"
        self.metrics_urls[service.name] = url
        command = [sys.executable, "-m", service.module]
        unit = ProcessUnit(self._process(service.name, command, environment, service.stop_timeout_s))
        child = Child(service.name, unit, service.stage, may_end=service.may_end, stopping=service.stopping)
        self._supervisor.start(child)
        return child

    def _process(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], stop_timeout_s: float
    ) -> ManagedProcess:
        log = self._folder.logs / f"{name}.log"
        return ManagedProcess(name=name, command=command, log=log, env=environment, stop_timeout_s=stop_timeout_s)

    def _free_port(self, name: str) -> int:
        port = ports.find_free(f"{self._folder.root} {name}", avoid=frozenset(self._ports))
        self._ports.add(port)
        return port

    @staticmethod
    def _require_free(port: int) -> None:
        if not ports.is_free(port):
            raise SetupError(
                f"port {port} is in use by {ports.holder(port)}; stop it or choose another for the API with --port"
            )


def _started_at() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def needs_exchange(choice: Choice) -> bool:
    """Whether K2's own exchange has to run."""
    return choice.kind in {Kind.CAPTURE, Kind.SYNTHETIC}
