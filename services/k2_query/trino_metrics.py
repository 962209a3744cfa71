"""What questions to Trino cost, `k2_query_trino_*`: by Trino's own statistics, so of any Trino, whoever runs it.

Filled by `k2_query.trino_client`, which says when a question is over; made by `k2_query.runtime` in mode `distributed`
only. Imports nothing of Trino's client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from k2_core.errors import (
    CatalogUnavailableError,
    EngineError,
    EngineUnavailableError,
    QueryError,
    RetryableError,
    StorageUnavailableError,
)
from k2_core.metrics import LATENCY_BUCKETS_S
from k2_query.budget import Budget

MEMORY_BUCKETS_BYTES: Final = tuple(float(4**step * 1024**2) for step in range(9))
"""1 MiB to 64 GiB in steps of 4."""
_STAGES: Final[Mapping[str, str]] = {
    "queued": "queuedTimeMillis",
    "planning": "planningTimeMillis",
    "elapsed": "elapsedTimeMillis",
}
"""By stage: what Trino calls it; the last is all of it. One that a version of Trino does not say is left out."""


class Purpose(StrEnum):
    """Why Trino is asked."""

    ANSWER = "answer"
    """Somebody asked the API."""
    PROBE = "probe"
    """The service wants to know whether Trino answers."""


class Outcome(StrEnum):
    """What became of a question."""

    OK = "ok"
    CANCELLED = "cancelled"
    """Its asker has gone."""
    OUT_OF_TIME = "out_of_time"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    """Credentials, rights, a table that Trino does not see, its version: no retry heals it."""
    CATALOG = "catalog"
    """Trino cannot reach the catalog."""
    STORAGE = "storage"
    """Trino cannot read the table's files."""
    UNAVAILABLE = "unavailable"
    """No answer, or none before Trino gave up."""
    FAILED = "failed"
    """A fault of this service."""


_KINDS: Final[tuple[tuple[type[Exception], Outcome], ...]] = (
    (QueryError, Outcome.TOO_LARGE),
    (EngineError, Outcome.REFUSED),
    (CatalogUnavailableError, Outcome.CATALOG),
    (StorageUnavailableError, Outcome.STORAGE),
    (EngineUnavailableError, Outcome.UNAVAILABLE),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is over.

    Args:
        purpose: Why it was asked.
        outcome: What became of it.
        seconds: From the question to the last row, or to where it failed; with what its asker took for the rows.
        statistics: As they stood in Trino's last answer to it; empty if there was none.
    """

    purpose: Purpose
    outcome: Outcome
    seconds: float
    statistics: Mapping[str, Any] = field(default_factory=dict)


Told = Callable[[Asked], None]


def outcome_of(error: BaseException, budget: Budget) -> Outcome:
    """Return what became of a question that ended with an error."""
    if budget.cancelled or isinstance(error, GeneratorExit):
        return Outcome.CANCELLED
    for kind, outcome in _KINDS:
        if isinstance(error, kind):
            return outcome
    # What is left of K2's errors is a budget that is over: here, or by Trino's own clock.
    return Outcome.OUT_OF_TIME if isinstance(error, RetryableError) else Outcome.FAILED


class TrinoMetrics:
    """The figures of one service.

    Args:
        registry: Where they are shown.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        by = ("purpose",)
        self.answers = Gauge(
            "k2_query_trino_answers",
            "1 while Trino answers the service's own question, 0 while it does not; NaN before the first",
            registry=registry,
        )
        self.answers.set(math.nan)
        self._statements = Counter(
            "k2_query_trino_statements_total", "Questions to Trino by outcome", (*by, "outcome"), registry=registry
        )
        self._seconds = Histogram(
            "k2_query_trino_statement_seconds",
            "From question to last row, by outcome",
            (*by, "outcome"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._stages = Histogram(
            "k2_query_trino_stage_seconds",
            "What Trino says of its time: queued, planning, and elapsed in all",
            (*by, "stage"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._memory = Histogram(
            "k2_query_trino_peak_memory_bytes",
            "The most memory that a question took in all of Trino",
            by,
            buckets=MEMORY_BUCKETS_BYTES,
            registry=registry,
        )
        self._counts = {
            name: Counter(f"k2_query_trino_{figure}_total", text, by, registry=registry)
            for name, figure, text in (
                ("processedRows", "processed_rows", "Rows that Trino read for questions"),
                ("processedBytes", "processed_bytes", "Bytes that Trino read for questions, decoded"),
                ("physicalInputBytes", "input_bytes", "Bytes that Trino read from files for questions"),
                ("totalSplits", "splits", "Splits, the units of Trino's work"),
            )
        }
        self._cpu = Counter(
            "k2_query_trino_cpu_seconds_total", "Processor time that Trino took for questions", by, registry=registry
        )

    def told(self, asked: Asked) -> None:
        """Count a question that is over."""
        purpose, outcome, figures = asked.purpose.value, asked.outcome.value, asked.statistics
        self._statements.labels(purpose, outcome).inc()
        self._seconds.labels(purpose, outcome).observe(asked.seconds)
        for stage, name in _STAGES.items():
            if (milliseconds := figures.get(name)) is not None:
                self._stages.labels(purpose, stage).observe(milliseconds / 1000)
        if (peak := figures.get("peakMemoryBytes")) is not None:
            self._memory.labels(purpose).observe(peak)
        for name, counter in self._counts.items():
            counter.labels(purpose).inc(figures.get(name, 0))
        self._cpu.labels(purpose).inc(figures.get("cpuTimeMillis", 0) / 1000)

    def show_answers(self, answers: bool | None) -> None:
        """Show whether Trino answers; None is not known yet."""
        self.answers.set(math.nan if answers is None else answers)
