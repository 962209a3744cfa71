from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_core.service_report import ServiceReport, fresh

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOLDEN = '{"service":"a","at":"2026-03-01T12:00:00Z","reason":"Refused","problem":"found no key"}'


def said(problem: str | None) -> ServiceReport:
    return ServiceReport("a", NOW, "Refused" if problem else "Answers", problem)


def test_it_is_read_as_it_was_written() -> None:
    report = said("found no key")
    assert report.dump() == GOLDEN
    assert ServiceReport.parse(GOLDEN) == report
    assert ServiceReport.parse(said(None).dump()) == said(None)


@pytest.mark.parametrize("problem", ["x" * 9_000, "\N{SNOWMAN}" * 5_000], ids=["long", "long and no ASCII"])
def test_however_long_a_problem_is_kafka_takes_the_report(problem: str) -> None:
    text = said(problem).dump()
    assert len(text) <= 3_500
    found = ServiceReport.parse(text)
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
    assert ServiceReport.parse(text) is None


def test_only_what_is_young_enough_counts() -> None:
    reports = [ServiceReport(f"{ago_s}", NOW - timedelta(seconds=ago_s), "Answers") for ago_s in (0, 9, 10, 60)]
    assert fresh([None, *reports], NOW, 10) == reports[:2]
