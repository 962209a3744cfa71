"""What one service says of what it last found, as the metadata of a group of Kafka that has no members.

So the operator needs no address of a pod and no scrape, as with `k2_core.sink_report`. `k2_core.engine_report` and
`k2_core.symbols_report` say which services do so, and what follows from what all of them say. A signal only: what is
missing, or older than its reader allows, is unknown. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

LONGEST_PROBLEM: Final = 1_000
"""Characters; Kafka takes 4,096 bytes by default, and JSON makes up to six bytes of a character."""
_LONGEST_BYTES: Final = 3_500
_WORD: Final = re.compile(r"[A-Z][A-Za-z]{1,40}")


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """What one service found when it last looked.

    Args:
        service: Names the process, or what it is for.
        at: When it said so, UTC.
        reason: One word.
        problem: What was found, and the next step; None if all is well.
    """

    service: str
    at: datetime
    reason: str
    problem: str | None = None

    def dump(self) -> str:
        """Return it as JSON, within what Kafka takes."""
        problem = None if self.problem is None else self.problem[:LONGEST_PROBLEM]
        while len(text := self._json(problem)) > _LONGEST_BYTES and problem:
            problem = problem[: len(problem) // 2]
        return text

    def _json(self, problem: str | None) -> str:
        at = self.at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        document = {"service": self.service, "at": at, "reason": self.reason, "problem": problem}
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str | None) -> ServiceReport | None:
        """Return the report in a group's metadata, or None if it holds anything else: signals are not errors."""
        try:
            document = json.loads(text or "")
            at = datetime.fromisoformat(document["at"]).astimezone(UTC)
            report = cls(document["service"], at, document["reason"], document["problem"])
        except (ValueError, KeyError, TypeError):
            return None
        return report if _sound(report) else None


def fresh(reports: Iterable[ServiceReport | None], now: datetime, within_s: float) -> list[ServiceReport]:
    """Return the reports that still say how things are: those that are no older than so many seconds."""
    return [one for one in reports if one is not None and (now - one.at).total_seconds() < within_s]


def _sound(report: ServiceReport) -> bool:
    return (
        isinstance(report.service, str)
        and isinstance(report.reason, str)
        and _WORD.fullmatch(report.reason) is not None
        and (report.problem is None or isinstance(report.problem, str))
    )
