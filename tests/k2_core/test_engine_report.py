from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_core.engine_report import FRESH_S, EngineReport, EngineWord, word_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOLDEN = '{"service":"a","at":"2026-03-01T12:00:00Z","reason":"Refused","problem":"found no key"}'


def said(service: str, problem: str | None = None, reason: str = "Refused", ago_s: float = 0.0) -> EngineReport:
    return EngineReport(service, NOW - timedelta(seconds=ago_s), reason if problem else "Answers", problem)


def test_it_is_read_as_it_was_written() -> None:
    report = said("a", "found no key")
    assert report.dump() == GOLDEN
    assert EngineReport.parse(GOLDEN) == report
    assert EngineReport.parse(said("b").dump()) == said("b")


@pytest.mark.parametrize("problem", ["x" * 9_000, "\N{SNOWMAN}" * 5_000], ids=["long", "long and no ASCII"])
def test_however_long_a_problem_is_kafka_takes_the_report(problem: str) -> None:
    text = said("a", problem).dump()
    assert len(text) <= 3_500
    found = EngineReport.parse(text)
    assert found is not None
    assert found.problem
    assert problem.startswith(found.problem)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{",
        GOLDEN.replace("Refused", "not a word"),
        GOLDEN.replace('"Refused"', "7"),
        GOLDEN.replace('"a"', "7"),
        GOLDEN.replace('"found no key"', "7"),
        GOLDEN.replace("2026", "in"),
        GOLDEN.replace('"service":"a",', ""),
    ],
    ids=str,
)
def test_anything_else_is_no_report(text: str | None) -> None:
    assert EngineReport.parse(text) is None


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
    reports: list[EngineReport | None], expected: EngineWord | None
) -> None:
    assert word_of(reports, NOW) == expected
    assert word_of(reports[::-1], NOW) == expected
