from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_core.engine_report import FRESH_S, EngineWord, word_of
from k2_core.service_report import ServiceReport

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(service: str, problem: str | None = None, reason: str = "Refused", ago_s: float = 0.0) -> ServiceReport:
    return ServiceReport(service, NOW - timedelta(seconds=ago_s), reason if problem else "Answers", problem)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([None, said("a", ago_s=FRESH_S)], None, id="none that is fresh"),
        pytest.param([said("a"), None, said("b", ago_s=FRESH_S - 1)], EngineWord(answers=True), id="all have answers"),
        pytest.param(
            [said("a"), said("b", "no table")],
            EngineWord(answers=False, reason="Refused", message="1 of 2 query pods: no table"),
            id="one has none",
        ),
        pytest.param(
            [said("a", "slow", "Unreachable"), said("b", "no table"), said("c", "old", "Archaic", FRESH_S)],
            EngineWord(answers=False, reason="Refused", message="2 of 2 query pods: no table"),
            id="always the same one is told",
        ),
    ],
)
def test_one_service_without_an_answer_is_enough(
    reports: list[ServiceReport | None], expected: EngineWord | None
) -> None:
    assert word_of(reports, NOW) == expected
    assert word_of(reports[::-1], NOW) == expected
