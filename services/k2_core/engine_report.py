"""What all query services of a pipeline together say of its Trino, each in a report of its own every few seconds.

Written by the query service in mode `distributed`, read by the operator; see `k2_core.service_report`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from k2_core.service_report import ServiceReport, fresh

FRESH_S: Final = 30.0
"""Twice what lies between two reports at most: a question's 8 s, and the 5 s before it."""
ANSWERS: Final = "Answers"
"""The reason while nothing is wrong."""


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


def word_of(reports: Iterable[ServiceReport | None], now: datetime) -> EngineWord | None:
    """Return what reports of the last seconds say; None without any.

    One service that has no answer is enough: what it is asked fails, whatever the others do.
    """
    heard = fresh(reports, now, FRESH_S)
    troubled = sorted((one.reason, one.problem) for one in heard if one.problem is not None)
    if not heard:
        return None
    if not troubled:
        return EngineWord(answers=True)
    reason, problem = troubled[0]
    return EngineWord(False, reason, f"{len(troubled)} of {len(heard)} query pods: {problem}")
