"""What each query service says of its Trino every few seconds: the metadata of a group that has no members.

So the operator needs no address of a pod and no scrape, as with `k2_core.sink_report`. Written by the query service in
mode `distributed`, read by the operator. A signal only: what is missing or older than `FRESH_S` is unknown. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

FRESH_S: Final = 30.0
"""Twice what lies between two reports at most: a question's 8 s, and the 5 s before it."""
LONGEST_PROBLEM: Final = 1_000
"""Characters; Kafka takes 4,096 bytes by default, and JSON makes up to six bytes of a character."""
ANSWERS: Final = "Answers"
"""The reason while nothing is wrong."""
_LONGEST_BYTES: Final = 3_500
_WORD: Final = re.compile(r"[A-Z][A-Za-z]{1,40}")


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What one query service found when it last asked.

    Args:
        service: Names the process.
        at: When it had asked, UTC.
        reason: One word, `ANSWERS` if there was an answer.
        problem: What was found, and the next step; None if there was an answer.
    """

    service: str
    at: datetime
    reason: str = ANSWERS
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
    def parse(cls, text: str | None) -> EngineReport | None:
        """Return the report in a group's metadata, or None if it holds anything else: signals are not errors."""
        try:
            document = json.loads(text or "")
            at = datetime.fromisoformat(document["at"]).astimezone(UTC)
            report = cls(document["service"], at, document["reason"], document["problem"])
        except (ValueError, KeyError, TypeError):
            return None
        return report if _sound(report) else None


@dataclass(frozen=True, slots=True)
class EngineWord:
    """What all query services together say.

    Args:
        answers: Whether Trino answers each of them.
        reason: One word.
        message: What was found by how many, and the next step; empty if it answers.
    """

    answers: bool
    reason: str = ANSWERS
    message: str = ""


def word_of(reports: Iterable[EngineReport | None], now: datetime) -> EngineWord | None:
    """Return what reports of the last seconds say; None without any.

    One service that has no answer is enough: what it is asked fails, whatever the others do.
    """
    fresh = [one for one in reports if one is not None and (now - one.at).total_seconds() < FRESH_S]
    troubled = sorted((one.reason, one.problem) for one in fresh if one.problem is not None)
    if not fresh:
        return None
    if not troubled:
        return EngineWord(answers=True)
    reason, problem = troubled[0]
    return EngineWord(False, reason, f"{len(troubled)} of {len(fresh)} query pods: {problem}")


def _sound(report: EngineReport) -> bool:
    return (
        isinstance(report.service, str)
        and isinstance(report.reason, str)
        and _WORD.fullmatch(report.reason) is not None
        and (report.problem is None or isinstance(report.problem, str))
    )
