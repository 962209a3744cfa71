"""One ingest process whose source is files: each is read once, then the process idles until it is told to stop.

Owns the order of files, what is refused, and the wiring. Called by `k2_ingest.service`. Where it goes on after a
restart the log says (`progress`), what a line means the vendor's parser. A file that is not the one whose rows the log
has is refused: its rows would be other trades under the same names.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import Gauge

from k2_core.errors import StateError
from k2_core.health import Check, HealthServer, Heartbeat
from k2_core.kafka import KafkaAdmin
from k2_core.metrics import new_registry
from k2_core.records import TRADES
from k2_core.schemas import schema_source
from k2_core.spec import FileSpec, IngestionSpec, Pipeline
from k2_core.storage import s3_properties
from k2_core.topics import (
    DATASET_HEADER,
    DEAD_LETTER_PARTITIONS,
    DIGEST_HEADER,
    FILE_HEADER,
    ROW_HEADER,
    dead_letter_topic,
)
from k2_core.types import Symbol
from k2_ingest.draining import drain
from k2_ingest.files import asx
from k2_ingest.files.encode import Dataset, RowEncoder
from k2_ingest.files.loading import Loading, Portion
from k2_ingest.files.progress import LogProgress, Progress
from k2_ingest.files.reading import Digest, SourceFile, lines
from k2_ingest.metrics import IngestMetrics, LiveCollector, Readings
from k2_ingest.producer import Destination, TradeProducer
from k2_ingest.settings import IngestSettings

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 0.005  # while records wait for their acknowledgement
IDLE_INTERVAL_S: Final = 0.1


class FileService:
    """Everything that one process of a file source runs.

    Args:
        settings: From the environment.
        pipeline: From the pipeline file.
        source: The one of the pipeline's sources that this process is for.
    """

    def __init__(self, settings: IngestSettings, pipeline: Pipeline, source: IngestionSpec) -> None:
        self._settings = settings
        self._source = source
        self._topic = pipeline.trades_topic(source)
        self._partitions = pipeline.trades_topics()[self._topic]
        self._properties = s3_properties(settings)
        self.registry = new_registry("k2-ingest")
        self._metrics = IngestMetrics(self.registry)
        self._files = Gauge("k2_ingest_files", "Files by what became of them", ["state"], registry=self.registry)
        for state, count in (("waiting", len(source.files or ())), ("done", 0), ("refused", 0)):
            self._files.labels(state).set(count)
        destination = Destination(self._topic, self._partitions, source.name)
        self.producer = TradeProducer(settings, destination, settings.ingest_queue_records, self._acknowledged)
        self._schema_id = TRADES.packaged_id
        self._progress: Mapping[str, Progress] = {}
        self._refused: list[StateError] = []
        self._opened = 0
        self._heart = Heartbeat()
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Run until `stop`, or until all files are in the log if that is what the settings want.

        Returns:
            The exit code: 0 only if every row is acknowledged.

        Raises:
            StateError: Files were refused; all others are in the log.
            K2Error: It could not start, or could not go on.
        """
        settings, checks = self._settings, self._checks()
        live = {"loop": self._heart.check}
        with HealthServer(
            settings.listen_host, settings.metrics_port, self.registry, checks, live=live, ready=checks
        ) as health:  # from the beginning, as a start may have to wait for Kafka and read its log
            beating = asyncio.create_task(self._beat())
            try:
                await asyncio.to_thread(self._prepare)
            finally:
                beating.cancel()
            self.registry.register(LiveCollector(self._readings()))
            log.info("ingest runs", extra={"metrics_port": health.port, "topic": self._topic})
            return await self._run()

    def stop(self) -> None:
        """Stop reading, then drain; `run` returns."""
        self._stopping.set()

    async def _run(self) -> int:
        working, polling = asyncio.create_task(self._work()), asyncio.create_task(self._poll())
        await asyncio.wait((working, polling), return_when=asyncio.FIRST_COMPLETED)
        for task in (working, polling):
            task.cancel()
        ends = await asyncio.gather(working, polling, return_exceptions=True)
        code = await asyncio.to_thread(drain, self.producer, self._settings.ingest_flush_timeout_s)
        for end in (*ends, *self._refused):
            if isinstance(end, Exception):  # a cancelled task is none
                raise end
        return code

    def _prepare(self) -> None:
        """Topics, schema id, and what the log has of each dataset."""
        wanted = {self._topic: self._partitions, dead_letter_topic(self._topic): DEAD_LETTER_PARTITIONS}
        KafkaAdmin(self._settings).ensure_topics(wanted)
        schemas = schema_source(self._settings)
        self._schema_id = schemas.id_for(self._topic, TRADES)
        datasets = {self._source.dataset(file): Symbol(file.symbol) for file in self._source.files or ()}
        self._progress = LogProgress(self._settings, self._topic, self._partitions, schemas).of(datasets)
        begun = sum(progress.last_row > 0 for progress in self._progress.values())
        log.info("files continue from the log", extra={"files": len(datasets), "begun": begun})

    async def _work(self) -> None:
        """Read all files, then idle until told to stop, unless there is nothing more to do."""
        for file in self._source.files or ():
            try:
                await self._load(file)
            except StateError as error:
                log.error("a file is refused", extra={"reason": str(error)})  # noqa: TRY400  # no traceback helps here
                self._refused.append(error)
                self._moved("refused")
            if self._stopping.is_set():
                return
        while self.producer.unacknowledged:
            await asyncio.sleep(POLL_INTERVAL_S)
        log.info("all files are in the log", extra={"refused": len(self._refused)})
        if not self._refused and not self._settings.ingest_stop_at_end:
            await self._stopping.wait()

    async def _load(self, spec: FileSpec) -> None:
        """Read one file to its end, or until told to stop.

        Raises:
            StateError: It is not the file whose rows the log has.
        """
        name, progress = self._source.dataset(spec), self._progress[self._source.dataset(spec)]
        file = SourceFile(spec.path, self._properties)
        digest = await asyncio.to_thread(file.digest)
        require_same_file(name, spec.path, digest, progress)
        dataset = Dataset(name, asx.EXCHANGE, asx.ASSET_CLASS, Symbol(spec.symbol))
        loading = Loading(RowEncoder(dataset, digest, self._schema_id), digest, progress)
        where = {DATASET_HEADER: name, FILE_HEADER: spec.path, DIGEST_HEADER: digest}
        self._opened += 1
        again = Digest()
        blocks = lines(again.through(file.blocks()), spec.path)
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            received_ns = time.time_ns()
            portion = await asyncio.to_thread(loading.take, block, received_ns)
            self._produce(Symbol(spec.symbol), portion, received_ns, where)
            while self.producer.full and not self._stopping.is_set():
                await asyncio.sleep(POLL_INTERVAL_S)
            if self._stopping.is_set():
                return
        if again.text != digest:
            raise StateError(
                f"{name} ({spec.path}): found digest {again.text} after {digest}, expected a file that stays as it is "
                "while it is read; give the rows that are wrong now another dataset (files[].name)"
            )
        self._moved("done")
        told = {"dataset": name, "rows": loading.rows, "rows_in_the_log_before": progress.last_row, "digest": digest}
        log.info("a file was read", extra=told)

    def _produce(self, symbol: Symbol, portion: Portion, received_ns: int, where: Mapping[str, str]) -> None:
        self._metrics.messages.inc(portion.lines)
        for one in portion.refused:
            self._metrics.dead_letters.labels(one.problem.reason).inc()
            self.producer.dead_letter(one.line, one.problem, received_ns, {**where, ROW_HEADER: str(one.row)})
        if portion.values:
            self.producer.account(symbol).received += len(portion.values)
            self.producer.produce(symbol, portion.values, received_ns)

    def _moved(self, state: str) -> None:
        self._files.labels("waiting").dec()
        self._files.labels(state).inc()

    async def _poll(self) -> None:
        """Take acknowledgements until told to stop.

        Raises:
            KafkaUnavailableError: A row will never be acknowledged.
        """
        while not self._stopping.is_set():
            self._heart.beat()
            self.producer.poll()
            await asyncio.sleep(POLL_INTERVAL_S if self.producer.unacknowledged else IDLE_INTERVAL_S)

    async def _beat(self) -> None:
        """Say that the loop goes round while a thread prepares, which bounds each of its steps itself."""
        while True:
            self._heart.beat()
            await asyncio.sleep(IDLE_INTERVAL_S)

    def _acknowledged(self, received_ns: int) -> None:
        self._metrics.receive_to_acknowledge.observe((time.time_ns() - received_ns) / 1e9)

    def _readings(self) -> Readings:
        return Readings(
            accounts=self.producer.accounts,
            trackers={},  # gaps are rows that are dead letters
            queued=lambda: self.producer.unacknowledged,
            connections=lambda: self._opened,
            connected=lambda: True,
        )

    def _checks(self) -> Mapping[str, Check]:
        return {
            "files": lambda: str(self._refused[0]) if self._refused else None,
            "kafka": lambda: "no broker answers" if self.producer.broker_gone else None,
        }


def require_same_file(name: str, path: str, digest: str, progress: Progress) -> None:
    """Refuse a file whose rows would be other trades under names that the log has already.

    Args:
        name: Of the dataset.
        path: Of the file.
        digest: Of the file.
        progress: What the log has of the dataset.

    Raises:
        StateError: It has rows of another version of the file.
    """
    if progress.digest not in {None, digest}:
        raise StateError(
            f"{name} ({path}): found a file with digest {digest}, expected {progress.digest}, of which the log has "
            f"rows to {progress.last_row}: put that one back, or name this one anew (spec.ingestion[].files[].name)"
        )
