"""From what services say of themselves to the handful of figures that `k2 up` shows.

Pure but for nothing: readings and times are arguments. Called by `k2_cli.up`; drawn by `k2_cli.view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from k2_cli.scrape import Sample


@dataclass(frozen=True, slots=True)
class Figures:
    """One moment of a pipeline; None is what could not be read.

    Args:
        messages_per_s: From the venue, over the time since the figures before.
        unread_records: Between the log's end and where the sinks read.
        rows_committed: Since `k2 up` began, restarts of a sink included.
        newest_row_age_s: How long ago the newest committed trade happened, by the venue's clock.
        gaps: Trade ids that the venue has counted and that did not come.
        level: Of degradation, 0 to 4, the highest of all services.
    """

    messages_per_s: float | None = None
    unread_records: int | None = None
    rows_committed: int | None = None
    newest_row_age_s: float | None = None
    gaps: int | None = None
    level: int | None = None

    def document(self) -> dict[str, float | int | None]:
        """Return the figures as JSON takes them."""
        return asdict(self)


@dataclass(slots=True)
class Counters:
    """Totals of counters that start again at 0 with their process."""

    _last: dict[tuple[str, str], float] = field(default_factory=dict)
    _total: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, process: str, name: str, value: float | None) -> None:
        """Take a reading; one that is below the one before belongs to a new process."""
        if value is None:
            return
        key = (process, name)
        before = self._last.get(key, 0.0)
        self._total[key] = self._total.get(key, 0.0) + (value - before if value >= before else value)
        self._last[key] = value

    def total(self, name: str) -> float | None:
        """Return the sum over all processes, or None if nobody ever said it."""
        found = [total for (_, series), total in self._total.items() if series == name]
        return sum(found) if found else None


MESSAGES = "k2_ingest_messages_received_total"
ROWS = "k2_sink_rows_committed_total"


class LiveFigures:
    """Turns readings into figures, one after another."""

    def __init__(self) -> None:
        self._counters = Counters()
        self._before: tuple[float, float] | None = None

    def update(self, samples: Mapping[str, Sample | None], monotonic_s: float, utc_s: float) -> Figures:
        """Return the figures of a reading.

        Args:
            samples: By process name; None for one that did not answer.
            monotonic_s: When it was made.
            utc_s: The same moment in UTC seconds since 1970.
        """
        for process, sample in samples.items():
            if sample is not None:
                for name in (MESSAGES, ROWS):
                    self._counters.add(process, name, sample.total(name))
        found = [sample for sample in samples.values() if sample is not None]
        newest = max(_values(found, "k2_sink_newest_committed_timestamp_seconds"), default=0.0)
        rows = self._counters.total(ROWS)
        return Figures(
            messages_per_s=self._rate(monotonic_s),
            unread_records=_whole(_sum(found, "k2_sink_unread_lag_records")),
            rows_committed=_whole(rows),
            newest_row_age_s=utc_s - newest if newest else None,
            gaps=_whole(_sum(found, "k2_ingest_sequence_missing")),
            level=_whole(max(_values(found, "k2_degradation_level"), default=None)),
        )

    def _rate(self, now: float) -> float | None:
        total = self._counters.total(MESSAGES)
        if total is None:
            return None
        before, self._before = self._before, (now, total)
        if before is None or now <= before[0]:
            return None
        return (total - before[1]) / (now - before[0])


def sinks_wanted(controller: Sample | None) -> int | None:
    """Return how many sinks the controller wants to run; None if it does not answer or has not decided."""
    return None if controller is None else _whole(controller.value("k2_controller_sinks", {"is": "wanted"}))


def _values(samples: Iterable[Sample], name: str) -> list[float]:
    totals = (sample.total(name) for sample in samples)
    return [total for total in totals if total is not None]


def _sum(samples: Iterable[Sample], name: str) -> float | None:
    found = _values(samples, name)
    return sum(found) if found else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def line(figures: Figures) -> str:
    """Return the figures on one line, for logs and pipes."""
    parts = (
        ("messages/s", _text(figures.messages_per_s, ",.0f")),
        ("unread", _text(figures.unread_records, ",d")),
        ("rows committed", _text(figures.rows_committed, ",d")),
        ("newest row", "-" if figures.newest_row_age_s is None else f"{age(figures.newest_row_age_s)} ago"),
        ("gaps", _text(figures.gaps, ",d")),
        ("level", _text(figures.level, "d")),
    )
    return "  ".join(f"{name} {value}" for name, value in parts)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def age(seconds: float) -> str:
    """Return a span of time in the unit that suits it: `2.3 s`, `45 min`, `7 h`, `834 d` (a replayed capture's)."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
