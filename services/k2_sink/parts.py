"""What a sink is put together from, by `__main__` or by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from k2_core.health import Heartbeat
from k2_core.kafka import KafkaAdmin
from k2_core.policy.classes import Priority
from k2_core.schemas import SchemaSource
from k2_core.spec import Pipeline
from k2_core.types import Level, Symbol
from k2_sink.commit import TableWriter
from k2_sink.drain import DRAIN_RECORDS_PER_S
from k2_sink.metrics import SinkMetrics
from k2_sink.settings import SinkSettings
from k2_sink.telling import Telling


def _no_level() -> Level:
    return Level.NORMAL


def _no_interval() -> float | None:
    return None


@dataclass(frozen=True, slots=True)
class Parts:
    """What the sink works with.

    Args:
        settings: Of the process.
        pipeline: What it takes in, and how.
        schemas: Of the records.
        admin: Of the pipeline's Kafka.
        writer: Of its table.
        metrics: What it exports.
        heart: Beats while the loop goes round.
        level: Asked at each step for the level of degradation to act on.
        priorities: The class of each symbol; one that is not named is NORMAL.
        drain_records_per_s: At which what was deferred is brought in.
        commit_interval_s: Asked at each commit for the interval that the controller wants; None: the pipeline's own.
        telling: What the sink says of itself.
    """

    settings: SinkSettings
    pipeline: Pipeline
    schemas: SchemaSource
    admin: KafkaAdmin
    writer: TableWriter
    metrics: SinkMetrics
    heart: Heartbeat = field(default_factory=Heartbeat)
    level: Callable[[], Level] = _no_level
    priorities: Mapping[Symbol, Priority] = field(default_factory=dict)
    drain_records_per_s: float = DRAIN_RECORDS_PER_S
    commit_interval_s: Callable[[], float | None] = _no_interval
    telling: Telling = field(default_factory=Telling)

    @property
    def raw_below_h(self) -> int:
        """Hours: where the log keeps records for less, level 3 keeps what waits in raw files."""
        return self.pipeline.spec.degradation.raw_files_below_retention_hours
