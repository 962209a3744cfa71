"""Everything that runs behind the routes, put together from the settings, started and stopped as one.

Called by `k2_query.app` (which starts it with the server) and `k2_query.__main__` (which makes it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from importlib import metadata
from types import TracebackType
from typing import Any, Final

from k2_core.codec import BatchDecoder
from k2_core.control_topic import ControlFollower
from k2_core.health import LIVE_WITHIN_S, Check
from k2_core.kafka import KafkaAdmin
from k2_core.metrics import new_registry
from k2_core.records import TRADES
from k2_core.reference import references
from k2_core.schemas import schema_source
from k2_core.spec import Pipeline
from k2_core.tables import open_catalog
from k2_core.types import TopicName
from k2_query.boundary import LogBounds, LogPartition
from k2_query.engine_watch import EngineWatch
from k2_query.engines import open_engine
from k2_query.hybrid import HybridReader, positions_of
from k2_query.lake import Lake, LakeHead, LakeSnapshot
from k2_query.log_reader import LogReader
from k2_query.log_watch import LogWatch
from k2_query.metrics import QueryMetrics
from k2_query.raw_reader import RawReader
from k2_query.segments import TailStore
from k2_query.service import QueryService
from k2_query.settings import QuerySettings
from k2_query.tail import Tail
from k2_query.telling import EngineTelling
from k2_query.trino_metrics import TrinoMetrics

STALE_S: Final = 10.0
"""Kafka, tail and catalog are asked several times a second; silence of this length is an outage, not a hiccup."""


class Runtime:
    """The query service without HTTP.

    Args:
        settings: Endpoints and limits.
        pipeline: Topics, namespace and behaviour.
    """

    def __init__(self, settings: QuerySettings, pipeline: Pipeline) -> None:
        spec = pipeline.spec
        topics: tuple[TopicName, ...] = tuple(pipeline.trades_topics())
        schemas = schema_source(settings)
        self.version = metadata.version("k2-lakehouse")
        self.metrics = QueryMetrics(new_registry("k2-query"))
        self.store = TailStore(TRADES, spec.query.tail_max_bytes)
        admin = KafkaAdmin(settings)
        self.watch = LogWatch(admin, topics)
        self.lake = Lake(lambda: open_catalog(settings), spec.namespace, TRADES, self._published)
        decoder = BatchDecoder(TRADES, schemas.by_id)
        self.tail = Tail(settings, self.store, self.watch, self._positions, decoder, self.metrics)
        self.engine_watch: EngineWatch | None = None
        self.trino_metrics: TrinoMetrics | None = None
        if spec.query.mode == "distributed":
            self.trino_metrics = TrinoMetrics(self.metrics.registry)
            self.engine = open_engine(settings, spec, self._fetched, self.trino_metrics.told)
            telling = EngineTelling(admin, pipeline.engine_group, pipeline.trades_topics())
            self.engine_watch = EngineWatch(self.engine, self._newest, told=telling.tell)
        else:
            self.engine = open_engine(settings, spec, self._fetched)
        reader = LogReader(settings, TRADES, schemas)
        hybrid = HybridReader(TRADES, topics, self.lake, self.watch, self.store, reader, RawReader(TRADES, schemas))
        commit_lag = timedelta(seconds=spec.query.commit_lag_seconds)
        self.control = ControlFollower(settings, pipeline.control_name)
        self.service = QueryService(
            self.engine,
            hybrid,
            self.lake,
            self.store,
            self.metrics,
            commit_lag,
            level=self.control.level,
            known=references(spec),
        )
        self.checks: dict[str, Check] = {
            "kafka": self._check_kafka,
            "tail": self._check_tail,
            "catalog": self._check_catalog,
        }
        self.live: Mapping[str, Check] = {"tail": self._check_polls, "lake": self._check_lake_thread}
        self.ready: dict[str, Check] = {
            "lake": lambda: "found no snapshot yet" if self.lake.peek() is None else None,
            "kafka": lambda: "found no answer yet" if self.watch.latest is None else None,
        }
        if self.engine_watch is not None:
            self.checks["trino"], self.ready["trino"] = self.engine_watch.check, self.engine_watch.ready

    def __enter__(self) -> Runtime:
        self.control.__enter__()
        self.lake.start()
        self.watch.start()
        self.tail.start()
        if self.engine_watch is not None:
            self.engine_watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.engine_watch is not None:
            self.engine_watch.stop()
        self.tail.stop()
        self.watch.stop()
        self.lake.stop()
        self.engine.close()
        self.control.__exit__(kind, error, traceback)

    def figures(self) -> dict[str, Any]:
        """Return what `/health` says beyond its checks."""
        head, latest = self.lake.peek(), self.watch.latest
        return {
            "tail": {
                "rows": self.store.rows,
                "bytes": self.store.nbytes,
                "unread_records": self._unread(),
                "kafka_seen_s_ago": None if latest is None else round(time.monotonic() - latest.asked_at, 3),
            },
            "lake": {
                "snapshot_id": None if head is None or head.snapshot.id is None else str(head.snapshot.id),
                "catalog_seen_s_ago": round(self.lake.checked_s_ago, 3) if head is not None else None,
            },
            # No check: a pipeline without a controller has no control topic, and answers are no worse for it.
            "control": {"level": int(self.control.level()), "trouble": self.control.trouble},
        }

    def update_gauges(self) -> None:
        """Bring the gauges up to date; called before they are shown."""
        self.metrics.level.set(self.control.level())
        self.metrics.control_trouble.set(self.control.trouble is not None)
        if self.trino_metrics is not None and self.engine_watch is not None:
            self.trino_metrics.show_answers(self.engine_watch.answers)
        self.metrics.tail_rows.set(self.store.rows)
        self.metrics.tail_bytes.set(self.store.nbytes)
        head, latest = self.lake.peek(), self.watch.latest
        newest = head.snapshot.index.newest_event_us if head else None
        self.metrics.committed_age.set(math.nan if newest is None else time.time() - newest / 1e6)
        if latest is None:
            return
        for at, position in self._positions(latest.bounds).items():
            self.metrics.committed_offset.labels(at.topic, str(at.partition)).set(position)
        for name, topic in latest.bounds.topics.items():
            for partition, end in topic.ends.items():
                self.metrics.end_offset.labels(name, str(partition)).set(end)

    def _newest(self) -> LakeSnapshot | None:
        head = self.lake.peek()
        return None if head is None else head.snapshot

    def _positions(self, bounds: LogBounds) -> Mapping[LogPartition, Any]:
        return positions_of(self.lake.peek(), bounds)

    def _published(self, head: LakeHead) -> None:
        latest = self.watch.latest
        if latest is not None:
            self.store.trim(positions_of(head, latest.bounds))

    def _fetched(self, nbytes: int) -> None:
        self.metrics.files_fetched.inc()
        self.metrics.bytes_fetched.inc(nbytes)

    def _unread(self) -> int | None:
        latest = self.watch.latest
        if latest is None:
            return None
        covered = self.store.covered()
        return sum(
            max(0, end - covered.get(LogPartition(name, partition), (0, 0))[1])
            for name, topic in latest.bounds.topics.items()
            for partition, end in topic.ends.items()
        )

    def _check_kafka(self) -> str | None:
        latest = self.watch.latest
        if self.watch.problem is not None:
            return self.watch.problem
        age = time.monotonic() - latest.asked_at if latest else math.inf
        return None if age < STALE_S else f"found no answer for {age:.0f} s, expected one within {STALE_S:g} s"

    def _check_tail(self) -> str | None:
        if self.tail.silent_s >= STALE_S:
            return f"found the tail silent for {self.tail.silent_s:.0f} s, expected it to poll"
        return self.tail.problem

    def _check_polls(self) -> str | None:
        silent_s = self.tail.silent_s
        return None if silent_s < LIVE_WITHIN_S else f"found the tail silent for {silent_s:.0f} s, expected it to poll"

    def _check_lake_thread(self) -> str | None:
        return None if self.lake.running else "found the lake's thread ended, expected it to run"

    def _check_catalog(self) -> str | None:
        if self.lake.problem is not None:
            return self.lake.problem
        age = self.lake.checked_s_ago
        return None if age < STALE_S else f"found no answer for {age:.0f} s, expected one within {STALE_S:g} s"
