"""One Prometheus registry a process, and the figures that every K2 process has.

A service makes its own metrics in one class that takes the registry, so that tests can have several side by side.
Names are `k2_*`, seconds and bytes, counters end in `_total` (https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from importlib import metadata
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, GCCollector, ProcessCollector, generate_latest

from k2_core.breaker import CircuitBreaker

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def new_registry(service: str) -> CollectorRegistry:
    """Return a registry with the process's own figures and `k2_build_info`.

    Args:
        service: The label of the build information, such as `k2-sink`.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    info = Gauge("k2_build_info", "Always 1; the labels say what runs", ("service", "version"), registry=registry)
    info.labels(service, metadata.version("k2-lakehouse")).set(1)
    return registry


def watch_breakers(breakers: Iterable[CircuitBreaker], registry: CollectorRegistry) -> None:
    """Export the breakers' states; to be called once a registry."""
    gauge = Gauge(
        "k2_circuit_breaker_state",
        "The circuit breaker's state: 0 closed, 1 half open, 2 open",
        ("name",),
        registry=registry,
    )
    for breaker in breakers:
        gauge.labels(breaker.name).set_function(lambda breaker=breaker: float(breaker.state))  # type: ignore[misc]


class Words:
    """Words that are said now, by the names of their gauges: each a series of 1 while it is said, and absent otherwise.

    Args:
        gauges: With the labels of whose words they are, and then those of a word.
    """

    def __init__(self, gauges: Mapping[str, Gauge]) -> None:
        self._gauges = gauges
        self._said: dict[tuple[str, ...], Mapping[str, Set[tuple[str, ...]]]] = {}

    def show(self, said: Mapping[str, Set[tuple[str, ...]]], *whose: str) -> None:
        """Show these words in place of the last; no word is ever absent in between that is in both."""
        before = self._said.pop(whose, {})
        for name, gauge in self._gauges.items():
            found = said.get(name, frozenset())
            for labels in before.get(name, frozenset()) - found:
                gauge.remove(*whose, *labels)
            for labels in found:
                gauge.labels(*whose, *labels).set(1)
        if said:
            self._said[whose] = said


def exposition(registry: CollectorRegistry) -> bytes:
    """Return the registry in Prometheus' text format."""
    return generate_latest(registry)
