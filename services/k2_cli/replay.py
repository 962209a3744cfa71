"""`k2 up --capture … --once`: a replay from its first message to the last commit, and the account of it.

The account is in the user's terms and counted over trades: what the ingest received, what Kafka acknowledged, and what
the table holds of it, judged by `k2_cli.verdict` as sets. Called by `k2_cli.up` with a stack that is up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from k2_cli.captured import Captured
from k2_cli.lake import Lake
from k2_cli.launch import SINK_STOP_S, STAGE_SINK, Exchange, LocalStack
from k2_cli.output import Say
from k2_cli.scrape import Buckets, Sample, Scraper, quantile, since
from k2_cli.source import Choice
from k2_cli.supervisor import Child, Supervisor
from k2_cli.verdict import ROW_COLUMNS, Verdict, judge
from k2_core.config import ServiceSettings
from k2_core.errors import SetupError
from k2_core.kafka import KafkaAdmin
from k2_core.records import TRADES
from k2_core.spec import Pipeline
from k2_core.tables import open_catalog
from k2_core.topics import dead_letter_topic
from k2_core.types import Offset, Partition, TopicName

FRESHNESS: Final = "k2_query_freshness_seconds"
TAIL_TIMEOUT_S: Final = 15.0
"""How long the query service may take to see what is in the log before its freshness counts as unknown."""
DRAIN_S: Final = 3600.0
"""A replay waits until all is committed: this only bounds a sink that makes no progress."""
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05

Ends = dict[tuple[TopicName, Partition], Offset]


@dataclass(frozen=True, slots=True)
class Account:
    """What `--once --json` prints; field by field in this order.

    Args:
        received: Trades that the ingest took from the exchange and could read.
        produced: Records that Kafka has of them.
        committed: Distinct captured trades that the table holds with equal values.
        duplicates: Rows of captured trades beyond one for each.
        missing: Distinct captured trades that the table does not hold with equal values.
        dead_lettered: Messages that became dead letters, at the ingest or at the sink.
        wall_s: From the ingest's connection to the last commit.
        messages_per_s: Received trades over that time.
        freshness_p99_s: 99 % of the trades could be read through the API this soon after they were received; None if
            the query service has not seen all of them.
    """

    received: int
    produced: int
    committed: int
    duplicates: int
    missing: int
    dead_lettered: int
    wall_s: float
    messages_per_s: float
    freshness_p99_s: float | None

    def document(self) -> dict[str, float | int | None]:
        """Return what is printed."""
        return asdict(self)


def log_ends(settings: ServiceSettings, pipeline: Pipeline) -> tuple[Ends, Ends]:
    """Return the ends of all partitions of the pipeline's trades topics, and of their dead-letter topics.

    Raises:
        KafkaUnavailableError: Kafka does not answer.
    """
    topics = list(pipeline.trades_topics())
    admin = KafkaAdmin(settings)
    return _ends(admin, topics), _ends(admin, [dead_letter_topic(topic) for topic in topics])


def _ends(admin: KafkaAdmin, topics: list[TopicName]) -> Ends:
    found: Ends = {}
    for topic, (_, count) in admin.describe_topics(topics).items():
        ends = admin.stable_ends(topic, [Partition(number) for number in range(count)])
        found |= {(topic, partition): end for partition, end in ends.items()}
    return found


def grown(before: Ends, after: Ends) -> int:
    """Return how many records were written between two looks at the ends."""
    return sum(end - before.get(at, Offset(0)) for at, end in after.items())


def judge_table(settings: ServiceSettings, pipeline: Pipeline, captured: Captured, since_us: int) -> Verdict:
    """Compare the captured trades with the table's head.

    Raises:
        K2Error: The table cannot be read.
    """
    lake = Lake.open(open_catalog(settings), pipeline.spec.namespace)
    wanted = captured.table()
    symbols = pa.array(list(captured.symbols))
    empty = pa.schema([(name, kind) for name, kind in _row_types()]).empty_table()
    parts = [empty] if lake is None else [_of_symbols(part, symbols) for part in lake.read(ROW_COLUMNS)] or [empty]
    return judge(wanted, pa.concat_tables(parts), since_us)


def _row_types() -> list[tuple[str, pa.DataType]]:
    return [(name, TRADES.table_schema.field(name).type) for name in ROW_COLUMNS]


def _of_symbols(rows: pa.Table, symbols: pa.Array) -> pa.Table:
    return rows.filter(pc.is_in(rows.column("symbol"), symbols))


class Replay:
    """One replay through a stack.

    Args:
        stack: Nothing of it is started yet.
        supervisor: Of the stack.
        check: Looks after processes and disk; raises when it cannot go on.
        say: Tells the user what is going on.
    """

    def __init__(self, stack: LocalStack, supervisor: Supervisor, check: Callable[[], object], say: Say) -> None:
        self._stack = stack
        self._supervisor = supervisor
        self._check = check
        self._say = say
        self._scraper = Scraper()
        self._seen_before: Buckets = []

    def run(self, captured: Captured, exchange: Exchange, choice: Choice) -> tuple[Account, Verdict]:
        """Replay everything, drain the sinks and judge; the other processes still run afterwards.

        Args:
            captured: What the files hold.
            exchange: How they are replayed.
            choice: What other commands are told of the source.

        Raises:
            K2Error: It could not start, or could not go on.
        """
        self._start()
        settings, pipeline = self._stack.settings, self._stack.pipeline
        trades_before, letters_before = log_ends(settings, pipeline)
        since_us = time.time_ns() // 1_000
        ingests = self._stack.start_ingest(self._stack.choose_exchange(), stop_at_end=True)
        self._stack.start_exchange(exchange)
        self._stack.write_run(choice)
        connected_at = self._follow(ingests)
        trades, _ = log_ends(settings, pipeline)
        produced = grown(trades_before, trades)
        self._say(f"replayed; committing {produced:,} records")
        self._supervisor.stop(STAGE_SINK)
        wall_s = time.monotonic() - connected_at
        freshness = self._freshness(produced)
        _, letters = log_ends(settings, pipeline)
        verdict = judge_table(settings, pipeline, captured, since_us)
        received = sum(_received(child) for child in ingests)
        return (
            Account(
                received=received,
                produced=produced,
                committed=verdict.committed,
                duplicates=verdict.duplicates,
                missing=verdict.missing,
                dead_lettered=grown(letters_before, letters),
                wall_s=round(wall_s, 3),
                messages_per_s=round(received / wall_s, 1),
                freshness_p99_s=freshness,
            ),
            verdict,
        )

    def _start(self) -> None:
        """Start all that takes trades in, and wait until it would see the first one."""
        self._stack.start_kafka()
        self._stack.start_sinks({"K2_SINK_DRAIN_TIMEOUT_S": f"{DRAIN_S:g}"}, DRAIN_S + SINK_STOP_S)
        self._stack.start_query()
        wanted = sum(self._stack.pipeline.trades_topics().values())
        self._wait(lambda: self._owned_partitions() >= wanted, "the sink to take its partitions")
        self._wait(lambda: self._scraper.healthy(self._stack.api_url) is None, "the query service to answer")

    def _owned_partitions(self) -> float:
        samples = self._samples("sink-")
        return sum(sample.total("k2_sink_owned_partitions") or 0.0 for sample in samples)

    def _samples(self, prefix: str) -> list[Sample]:
        urls = [url for name, url in self._stack.metrics_urls.items() if name.startswith(prefix)]
        return [sample for url in urls if (sample := self._scraper.read(url)) is not None]

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise SetupError(f"waited {READY_TIMEOUT_S:g} s for {what}; see the logs")
            time.sleep(POLL_S)

    def _follow(self, ingests: Sequence[Child]) -> float:
        """Wait until the ingests have ended; returns when (monotonic) the first of them was connected."""
        connected_at: float | None = None
        while not all(child.ended for child in ingests):
            self._check()
            if connected_at is None:
                # What the query service read of the log before is of earlier runs.
                before = self._freshness_buckets()
                if any((sample.total("k2_ingest_connections_total") or 0) > 0 for sample in self._samples("ingest-")):
                    connected_at = time.monotonic()
                else:
                    self._seen_before = before
            time.sleep(POLL_S)
        # A capture of a few trades is over before it was ever seen connected.
        return connected_at if connected_at is not None else time.monotonic() - POLL_S

    def _freshness(self, produced: int) -> float | None:
        deadline = time.monotonic() + TAIL_TIMEOUT_S
        seen = 0.0
        while time.monotonic() < deadline:
            buckets = since(self._seen_before, self._freshness_buckets())
            seen = buckets[-1][1] if buckets else 0.0
            if seen >= produced > 0:
                p99 = quantile(buckets, 0.99)
                return None if p99 is None else round(p99, 4)
            time.sleep(POLL_S)
        self._say(f"freshness: unknown, as the query service has seen {seen:,.0f} of {produced:,} trades")
        return None

    def _freshness_buckets(self) -> Buckets:
        sample = self._scraper.read(self._stack.api_url)
        return sample.buckets(FRESHNESS) if sample is not None else []


def _received(child: Child) -> int:
    """Return the trades that an ingest said at its end it had received."""
    said = [document["received"] for document in json_lines(child.unit.log_tail(50)) if "received" in document]
    if not said or not isinstance(said[-1], int):
        raise SetupError(f"{child.name}: found no count of received trades in its log, expected one at its end")
    return said[-1]


def json_lines(text: str) -> list[dict[str, object]]:
    """Return the JSON objects among the lines of a log."""
    found = (json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}"))
    return [document for document in found if isinstance(document, dict)]
