"""The controller's figures. A figure that is unknown is absent, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from k2_core.controller.figures import LOAD, WORDS, load, words
from k2_core.controller.lag import Lag, by_topic
from k2_core.controller.loop import Tick
from k2_core.metrics import Words
from k2_core.types import TopicName

_LAGS: Final = {
    "unread": ("k2_lag_unread_records", "Records that no sink has read"),
    "uncommitted": ("k2_lag_uncommitted_records", "Records that are not in the table"),
    "unread_age_s": ("k2_lag_unread_age_seconds", "Age of the oldest record that no sink has read"),
    "uncommitted_age_s": ("k2_lag_uncommitted_age_seconds", "Age of the oldest record that is not in the table"),
    "committed_age_s": ("k2_lag_committed_age_seconds", "Since the newest commit that took something in"),
}


class ControllerMetrics:
    """What a controller exports.

    Args:
        registry: Where.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self._level = gauge("k2_controller_level", "The level that the controller tells services, 0 to 4")
        self._recommended = gauge("k2_controller_recommended_level", "The level that the rules say, 0 to 4")
        # With a label, as only then a figure can be absent.
        self._sinks = gauge("k2_controller_sinks", "Sinks that are to run", "is")
        self._budget = gauge("k2_controller_outage_budget_seconds", "Until the log removes what is owed", "is")
        self._deferred = gauge("k2_controller_deferred_records", "Records in open ledger ranges", "is")
        self._deferred_age = gauge("k2_controller_deferred_age_seconds", "Age of the oldest of them", "is")
        self._interval = gauge("k2_controller_commit_interval_seconds", "With which sinks are to commit")
        self._missing = gauge("k2_controller_missing_figures", "Figures that hold decisions as they are not known")
        self._override = gauge("k2_controller_override", "1 while a person's decision is in force")
        self._load = {name: gauge(f"k2_controller_{name}", text, "is") for name, text in LOAD.items()}
        self._words = Words({name: gauge(f"k2_controller_{name}", text, "of", "word") for name, text in WORDS.items()})
        self._lags = {name: gauge(*lag, "topic") for name, lag in _LAGS.items()}
        self.turns = Counter("k2_controller_turns", "Looks and decisions by outcome", ("outcome",), registry=registry)

    def show(self, tick: Tick) -> None:
        """Show one turn."""
        decision, seen = tick.decision, tick.decision.observation
        self._level.set(decision.level.applied)
        self._recommended.set(decision.level.recommended)
        self._interval.set(decision.replicas.commit_interval_s)
        self._missing.set(len(decision.missing))
        self._override.set(tick.override is not None)
        _set(self._sinks, "wanted", decision.replicas.applied)
        _set(self._sinks, "recommended", decision.replicas.step.recommended)
        _set(self._sinks, "ready", seen.ready_replicas)
        _set(self._budget, "left", decision.outage_budget_s)
        _set(self._deferred, "owed", seen.deferred_records)
        _set(self._deferred_age, "oldest", seen.oldest_deferred_age_s)
        for name, value in load(decision).items():
            _set(self._load[name], "seen", value)
        self._words.show(words(decision))
        self.turns.labels("held" if tick.look is None else "looked").inc()
        lags = {} if tick.look is None else by_topic(tick.look.partitions)
        for name, series in self._lags.items():
            _show_lags(series, name, lags)


def _show_lags(series: Gauge, name: str, lags: Mapping[TopicName, Lag]) -> None:
    series.clear()
    for topic, lag in lags.items():
        _set(series, topic, getattr(lag, name))


def _set(gauge: Gauge, label: str, value: float | None) -> None:
    if value is None:
        gauge.remove(label)
    else:
        gauge.labels(label).set(value)
