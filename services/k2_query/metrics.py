"""The query service's figures. One instance a process; tests have several, each with a registry of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily

from k2_core.metrics import LATENCY_BUCKETS_S

FRESHNESS_BUCKETS_S: Final = tuple(round(0.001 * 1.2**step, 6) for step in range(61))
"""1 ms to 56 s in steps of 20 %, so that a p99 read from the buckets is at most that far off."""


class BatchHistogram:
    """A Prometheus histogram that takes an array at a time: the client's own costs Python for each value."""

    def __init__(self, name: str, documentation: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.array(buckets)
        self._counts = np.zeros(len(buckets) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, values_s: npt.NDArray[np.float64]) -> None:
        """Count values, in seconds. Negative ones, of clocks that disagree, count as the smallest."""
        found = np.bincount(np.searchsorted(self._bounds, values_s, side="left"), minlength=len(self._counts))
        with self._lock:
            self._counts += found
            self._sum += float(np.maximum(values_s, 0).sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the histogram; called by the registry."""
        with self._lock:
            cumulative, total = np.cumsum(self._counts).tolist(), self._sum
        bounds = [*(f"{bound:g}" for bound in self._bounds.tolist()), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], list(zip(bounds, cumulative, strict=True)), total)
        yield family


class QueryMetrics:
    """Everything that `/metrics` says about queries, tail and lake."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "k2_query_requests_total", "Answers by route and status", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "k2_query_duration_seconds",
            "From request to answer, by route",
            ("route",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.stages = Histogram(
            "k2_query_stage_seconds",
            "Where the time of hybrid reads goes",
            ("stage",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.incomplete = Counter(
            "k2_query_incomplete_total", "Hybrid answers that said complete: false", registry=registry
        )
        self.freshness = BatchHistogram(
            "k2_query_freshness_seconds", "From receipt to readable through the API", FRESHNESS_BUCKETS_S, registry
        )
        self.exchange_freshness = BatchHistogram(
            "k2_query_exchange_freshness_seconds",
            "From the exchange's time to readable through the API, where that is within 60 s of now",
            FRESHNESS_BUCKETS_S,
            registry,
        )
        self.files_fetched = Counter(
            "k2_query_fetched_files_total", "Data files fetched from object storage", registry=registry
        )
        self.bytes_fetched = Counter(
            "k2_query_fetched_bytes_total", "Bytes of data files fetched from object storage", registry=registry
        )
        self.tail_rejected = Counter(
            "k2_query_tail_rejected_total", "Values in the log that are no records", registry=registry
        )
        self.level = Gauge(
            "k2_query_level", "The level of degradation that services were told, 0 to 4", registry=registry
        )
        self.control_trouble = Gauge(
            "k2_control_trouble",
            "1 while the control topic is missing, not read or holds garbage, so that the level stays",
            registry=registry,
        )
        self.tail_rows = Gauge("k2_query_tail_rows", "Rows of the tail in memory", registry=registry)
        self.tail_bytes = Gauge("k2_query_tail_bytes", "Bytes of the tail in memory", registry=registry)
        self.committed_age = Gauge(
            "k2_query_committed_age_seconds", "Age of the newest committed event; NaN without one", registry=registry
        )
        self.committed_offset = Gauge(
            "k2_query_committed_offset", "W: where the pinned snapshot ends", ("topic", "partition"), registry=registry
        )
        self.end_offset = Gauge(
            "k2_query_end_offset", "E: the last stable offset last seen", ("topic", "partition"), registry=registry
        )
