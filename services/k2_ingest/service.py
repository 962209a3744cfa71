"""One ingest process: a source of the pipeline file, from an exchange's socket to Kafka, until told to stop.

Owns the wiring, the order of start and stop, and the exit code. Called by `__main__` and by benchmarks. It never
decides anything about records; that is `pipeline`'s, the venue's and the sequence's.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import httpx

from k2_core.breaker import CircuitBreaker
from k2_core.errors import KafkaUnavailableError, SpecError
from k2_core.group_telling import GroupTelling
from k2_core.health import Check, HealthServer, Heartbeat
from k2_core.kafka import KafkaAdmin
from k2_core.metrics import new_registry, watch_breakers
from k2_core.records import TRADES
from k2_core.schemas import schema_source
from k2_core.spec import IngestionSpec, Pipeline, load_pipeline
from k2_core.spec_ingestion import rest_server_of
from k2_core.topics import DEAD_LETTER_PARTITIONS, dead_letter_topic
from k2_core.types import Partition, Symbol, TopicName
from k2_ingest.draining import drain
from k2_ingest.encode import Identity, TradeEncoder
from k2_ingest.feed import Feed, FeedConfig
from k2_ingest.log_end import LogEnd
from k2_ingest.metrics import IngestMetrics, LiveCollector, Readings, Thresholds
from k2_ingest.pipeline import Lane
from k2_ingest.pipeline import Pipeline as HotLoop
from k2_ingest.producer import Destination, TradeProducer
from k2_ingest.sequence import SequenceTracker
from k2_ingest.settings import IngestSettings
from k2_ingest.symbols import SymbolWatch
from k2_ingest.venues import binance
from k2_ingest.venues.binance_symbols import SymbolQuestions

if TYPE_CHECKING:
    from k2_ingest.files.service import FileService

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 0.005  # acknowledgements are taken and a paused socket is looked at this often
STATUS_TIMEOUT_S: Final = 5.0


def choose_source(pipeline: Pipeline, name: str | None) -> IngestionSpec:
    """The source of the pipeline file that this process is for.

    Raises:
        SpecError: There is none of this name, or several and no name.
    """
    sources = {source.name: source for source in pipeline.spec.ingestion}
    if name is None and len(sources) == 1:
        return pipeline.spec.ingestion[0]
    if name is None or name not in sources:
        raise SpecError("K2_INGEST_SOURCE", repr(name), f"one of {', '.join(sources)}")
    return sources[name]


class IngestService:
    """Everything that one process runs.

    Args:
        settings: From the environment.
        pipeline: From the pipeline file.

    Raises:
        SpecError: There is no such source, or no certificate in the file of a CA.
    """

    def __init__(self, settings: IngestSettings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._source = choose_source(pipeline, settings.ingest_source)
        self._topic = pipeline.trades_topic(self._source)
        self._partitions = pipeline.trades_topics()[self._topic]
        self.registry = new_registry("k2-ingest")
        self._metrics = IngestMetrics(self.registry)
        destination = Destination(self._topic, self._partitions, self._source.name)
        self.producer = TradeProducer(settings, destination, settings.ingest_queue_records, self._acknowledged)
        self.lanes: dict[Symbol, Lane] = {}
        self._stopped = False
        self._breaker = CircuitBreaker("venue")
        self._heart = Heartbeat()
        self._unit = binance.TimeUnit[settings.ingest_time_unit.upper()]
        self._symbols = _symbol_watch(settings, pipeline, self._source)
        self._subscriptions = 0
        self.feed: Feed | None = None

    async def run(self) -> int:
        """Run until `stop`, or to the end of a finished replay.

        Returns:
            The exit code: 0 only if every received trade is acknowledged.

        Raises:
            K2Error: It could not start, or could not go on.
        """
        settings, checks = self._settings, self._checks()
        live = {"loop": self._heart.check}
        with HealthServer(
            settings.listen_host,
            settings.metrics_port,
            self.registry,
            {**checks, "symbols": self._symbols.check},  # for people: what the venue does know is received
            live=live,
            ready=checks,
        ) as health:  # from the beginning, as a start may have to wait for Kafka
            asking = asyncio.create_task(self._symbols.first())
            await asyncio.to_thread(self._prepare)
            await asking
            feed = self.feed = self._make_feed()
            if self._stopped:  # told while it was starting
                feed.stop()
            self.registry.register(LiveCollector(self._readings(feed)))
            watch_breakers([self._breaker], self.registry)
            log.info("ingest runs", extra={"metrics_port": health.port, "topic": self._topic})
            return await self._run(feed)

    async def _run(self, feed: Feed) -> int:
        beside = [asyncio.create_task(self._poll(feed)), asyncio.create_task(self._symbols.run())]
        try:
            await feed.run(self._replay_finished if self._settings.ingest_stop_at_end else None)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            code = drain(self.producer, self._settings.ingest_flush_timeout_s)
        return code

    def stop(self) -> None:
        """Stop reading, then drain; `run` returns."""
        self._stopped = True
        if self.feed is not None:
            self.feed.stop()

    def _readings(self, feed: Feed) -> Readings:
        return Readings(
            accounts=self.producer.accounts,
            trackers={symbol: lane.tracker for symbol, lane in self.lanes.items()},
            queued=lambda: self.producer.unacknowledged,
            connections=lambda: feed.connections,
            connected=lambda: feed.connected,
            thresholds=Thresholds(
                self._source.gap_threshold_ids,
                self._source.silence_threshold_seconds,
                lambda: self._metrics.heard_ns,
            ),
            unknown=lambda: self._symbols.unknown_count,
        )

    def _prepare(self) -> None:
        """Topics, schema id, and where each symbol's sequence stands."""
        wanted = {self._topic: self._partitions, dead_letter_topic(self._topic): DEAD_LETTER_PARTITIONS}
        KafkaAdmin(self._settings).ensure_topics(wanted)
        schemas = schema_source(self._settings)
        schema_id = schemas.id_for(self._topic, TRADES)
        symbols = self._source.symbol_names
        ends = LogEnd(self._settings, self._topic, self._partitions, schemas).last_sequences(symbols)
        log.info("sequences continue from the log", extra={"symbols": len(symbols), "continued": len(ends)})
        for symbol in symbols:
            tracker = SequenceTracker(ends[symbol] + 1 if symbol in ends else None)
            identity = Identity(self._source.venue, self._source.exchange_market, self._source.traded, symbol)
            encoder = TradeEncoder(identity, schema_id)
            self.lanes[symbol] = Lane(self.producer.account(symbol), tracker, encoder)

    def _make_feed(self) -> Feed:
        settings = self._settings
        parser = binance.Parser(self._source.symbol_names, self._unit)
        loop = HotLoop(parser, self.lanes, self.producer, self._metrics, self._notice)
        config = FeedConfig(
            self._url() if self._symbols.wanted else None, settings.ingest_ca_file, settings.ingest_stale_after_s
        )

        def handle(messages: Sequence[bytes], received_ns: int) -> None:
            loop.handle(messages, received_ns)
            if self.producer.full and self.feed is not None and not self.feed.paused:
                self._metrics.paused.inc()
                self.feed.pause()

        feed = Feed(config, handle, self._breaker)

        def listen_to(symbols: Sequence[Symbol]) -> None:
            self._subscriptions += 1
            feed.listen_to(self._url(), binance.subscription(symbols, self._subscriptions))

        self._symbols.on_known = listen_to
        return feed

    def _url(self) -> str:
        """Of a connection to all that the venue knows."""
        server = self._settings.ingest_url or self._source.stream_url
        return server + binance.stream_path(self._symbols.wanted, self._unit)

    async def _poll(self, feed: Feed) -> None:
        """Take acknowledgements, and read again once the queue has drained."""
        try:
            while True:
                self._heart.beat()
                self.producer.poll()
                if feed.paused and self.producer.drained:
                    feed.resume()
                await asyncio.sleep(POLL_INTERVAL_S)
        except KafkaUnavailableError as error:
            feed.fail(error)

    def _acknowledged(self, received_ns: int) -> None:
        self._metrics.receive_to_acknowledge.observe((time.time_ns() - received_ns) / 1e9)

    def _notice(self, notice: binance.Notice) -> None:
        if notice is not binance.Notice.ACKNOWLEDGED:
            log.warning("the venue says", extra={"notice": notice.value})

    def _checks(self) -> Mapping[str, Check]:
        return {
            "venue": lambda: None if self.feed is not None and self.feed.connected else "not connected",
            "kafka": lambda: "no broker answers" if self.producer.broker_gone else None,
        }

    async def _replay_finished(self) -> bool:
        base = rest_server(self._settings, self._source)
        try:
            async with httpx.AsyncClient(timeout=STATUS_TIMEOUT_S) as client:
                answer = await client.get(f"{base}/k2/status")
        except httpx.TransportError:
            # The exchange closed normally and is gone: there is nothing more to come from it.
            return True
        return answer.is_success and bool(answer.json().get("finished"))


def rest_server(settings: IngestSettings, source: IngestionSpec) -> str:
    """Return the base of a source's REST endpoints."""
    if settings.ingest_rest_url is not None:
        return settings.ingest_rest_url
    return source.rest_server if settings.ingest_url is None else rest_server_of(settings.ingest_url)


def _symbol_watch(settings: IngestSettings, pipeline: Pipeline, source: IngestionSpec) -> SymbolWatch:
    try:
        tls = ssl.create_default_context(cafile=settings.ingest_ca_file)
    except OSError as error:
        found = f"{settings.ingest_ca_file} ({error})"
        raise SpecError("K2_INGEST_CA_FILE", found, "a file with certificates in PEM") from error
    questions = SymbolQuestions(rest_server(settings, source), tls)
    field = f"spec.ingestion[{pipeline.spec.ingestion.index(source)}].symbols"
    telling = GroupTelling(
        KafkaAdmin(settings), pipeline.symbols_group, symbols_place(pipeline, source), "what the exchange knows"
    )
    return SymbolWatch(
        source.name,
        field,
        source.symbol_names,
        questions,
        lambda report: telling.tell(report.dump()),
        settings.ingest_symbols_pause_s,
    )


def symbols_place(pipeline: Pipeline, source: IngestionSpec) -> tuple[TopicName, Partition]:
    """Return where a source tells of its symbols: a partition of its topic for each of those that share the topic."""
    topic = pipeline.trades_topic(source)
    sharing = [one.name for one in pipeline.spec.ingestion if pipeline.trades_topic(one) == topic]
    return topic, Partition(sharing.index(source.name) % pipeline.trades_topics()[topic])


def service_for(settings: IngestSettings, pipeline: Pipeline) -> IngestService | FileService:
    """Return what runs the source that the settings name.

    Raises:
        SpecError: There is no such source.
    """
    source = choose_source(pipeline, settings.ingest_source)
    if not source.reads_files:
        return IngestService(settings, pipeline)
    from k2_ingest.files.service import FileService  # noqa: PLC0415  # object storage's client, a feed need not wait for

    return FileService(settings, pipeline, source)


async def serve(settings: IngestSettings) -> int:
    """Run the process that the settings describe until SIGTERM or SIGINT.

    Raises:
        K2Error: It could not start, or could not go on.
    """
    service = service_for(settings, load_pipeline(settings.pipeline_file))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    return await service.run()
