"""What each sink says of itself every second: the metadata of its read positions in the group `sink_group`.

So a controller needs nothing but Kafka: no address of a pod, no scrape. Written by the sink, read by the controller.
A signal only: nothing decides on it about data, and what is missing or older than `FRESH_S` counts as unknown. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from k2_core.types import Level

FRESH_S: Final = 5.0
"""Five times the interval at which reports are written."""


@dataclass(frozen=True, slots=True)
class SinkReport:
    """One sink at one moment.

    Args:
        sink: Names the process: another one of the same name begins its counts anew.
        at: UTC.
        level: That the newest command it knows says; it works at this or at its own, whichever is greater, unless a
            person has overridden the command.
        own_level: To which it has raised itself, or NORMAL.
        accepted: Records that it has read and taken in since it started.
        shed: Records that it has read and only entered in the ledger since it started.
        memory_ratio: Resident memory as a share of its limit; None if it cannot be known.
        failing: Whether what it last tried with catalog or warehouse failed.
        commit_s: How long commits take, the slower of the last two; None before the first.
        standing_s: For how long reading stood still before what it is catching up with now, as while rows are written
            and committed; 0 if it has caught up.
        deferred: Records in the open ledger ranges of its partitions.
        waiting: Unread records of those of its partitions of which everything waits at its level.
        oldest_deferred_at: When the oldest of those that only the log holds was written to it, UTC; `at` if raw files
            hold all of them, None without any.
        record_bytes: Of a record in the log, as the sink receives them; None if it has received none.
        deferred_share: Of a topic's `retention.bytes`, what stands in the log from the first record on that is owed and
            only the log holds, the greatest of its partitions; None without any, without a limit, or if not known.
    """

    sink: str
    at: datetime
    level: Level = Level.NORMAL
    own_level: Level = Level.NORMAL
    accepted: int = 0
    shed: int = 0
    memory_ratio: float | None = None
    failing: bool = False
    commit_s: float | None = None
    standing_s: float = 0.0
    deferred: int = 0
    waiting: int = 0
    oldest_deferred_at: datetime | None = None
    record_bytes: float | None = None
    deferred_share: float | None = None

    def dump(self) -> str:
        """Return it as JSON: some 300 bytes of the 4,096 that Kafka takes by default."""
        document = asdict(self) | {"at": _text(self.at), "oldest_deferred_at": _text(self.oldest_deferred_at)}
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str | None) -> SinkReport | None:
        """Return the report in a group's metadata, or None if it holds anything else: signals are not errors."""
        try:
            document = json.loads(text or "")
            moments = {name: _moment(document[name]) for name in ("at", "oldest_deferred_at")}
            levels = {name: Level(document[name]) for name in ("level", "own_level")}
            report = cls(**{**document, **moments, **levels})
        except (ValueError, KeyError, TypeError):
            return None
        return report if _sound(report) else None

    def fresh(self, now: datetime) -> bool:
        """Return whether it still says how things are."""
        return (now - self.at).total_seconds() < FRESH_S


def newest(reports: Iterable[SinkReport | None]) -> dict[str, SinkReport]:
    """Return the newest report of each sink: it stands beside each of its partitions."""
    found: dict[str, SinkReport] = {}
    for report in reports:
        if report is not None and (report.sink not in found or found[report.sink].at < report.at):
            found[report.sink] = report
    return found


def _sound(report: SinkReport) -> bool:
    counts = (report.accepted, report.shed, report.deferred, report.waiting)
    told = (report.memory_ratio, report.commit_s, report.record_bytes, report.deferred_share)
    figures = [figure for figure in told if figure is not None]
    return (
        isinstance(report.at, datetime)
        and isinstance(report.sink, str)
        and isinstance(report.failing, bool)
        and all(type(count) is int and count >= 0 for count in counts)
        and all(isinstance(figure, int | float) and figure >= 0 for figure in [report.standing_s, *figures])
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
