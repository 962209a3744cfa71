"""The names of all figures that K2's processes export, taken from the code that registers them.

Alerts, dashboards and runbooks are held to these names, so that a renamed figure cannot leave a panel empty in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry

from k2_core.breaker import CircuitBreaker
from k2_core.metrics import new_registry, watch_breakers
from k2_core.types import Symbol
from k2_ingest.deliveries import Account
from k2_ingest.metrics import IngestMetrics, LiveCollector, Readings, Thresholds
from k2_ingest.sequence import SequenceTracker
from k2_operator.metrics import OperatorMetrics
from k2_query.metrics import QueryMetrics
from k2_query.trino_metrics import TrinoMetrics
from k2_sink.metrics import SinkMetrics

OF_KUBERNETES: Final = frozenset({"kube_deployment_spec_replicas", "kube_deployment_status_replicas_ready"})
"""What alerts take from kube-state-metrics, where that is installed."""
_SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
_FIGURE: Final = re.compile(r"\b((?:k2|kube|process)_[a-z0-9_]+)\b")


def _registries() -> Iterator[CollectorRegistry]:
    ingest = new_registry("k2-ingest")
    IngestMetrics(ingest)
    symbol = Symbol("BTCUSDT")
    told = Thresholds(1, 60, lambda: 0)
    readings = Readings(
        {symbol: Account()}, {symbol: SequenceTracker()}, lambda: 0, lambda: 0, lambda: True, told, lambda: 0
    )
    ingest.register(LiveCollector(readings))
    yield ingest
    for kind in (SinkMetrics, QueryMetrics, TrinoMetrics, OperatorMetrics):
        registry = CollectorRegistry()
        kind(registry)
        yield registry
    breakers = CollectorRegistry()
    watch_breakers([CircuitBreaker("any")], breakers)
    yield breakers


def _names() -> Iterator[str]:
    for registry in _registries():
        for family in registry.collect():
            for suffix in _SUFFIXES[family.type]:
                yield family.name + suffix


EXPORTED: Final = frozenset(_names()) | OF_KUBERNETES
FAMILIES: Final = EXPORTED | {name.removesuffix("_bucket") for name in EXPORTED}
"""With histograms by their own name, as people write them."""


def metrics_in(expression: str) -> set[str]:
    """Return the names of figures in PromQL: quoted strings and label names left out."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    return set(_FIGURE.findall(bare))
