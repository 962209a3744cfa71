from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_core.service_report import LONGEST_PROBLEM, ServiceReport
from k2_core.symbols_report import FRESH_S, KNOWN, NOT_ASKED, UNKNOWN, SymbolsWord, listed, word_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(service: str, reason: str = KNOWN, ago_s: float = 0.0) -> ServiceReport:
    return ServiceReport(service, NOW - timedelta(seconds=ago_s), reason, f"of {service}" if reason != KNOWN else None)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([None, said("a", UNKNOWN, FRESH_S)], None, id="none that is fresh"),
        pytest.param([said("a"), said("b", UNKNOWN, FRESH_S)], SymbolsWord(known=True), id="all are known"),
        pytest.param([said("a"), said("b", NOT_ASKED)], SymbolsWord(None, NOT_ASKED, "of b"), id="one does not say"),
        pytest.param(
            [said("c", UNKNOWN), said("a", UNKNOWN), said("b", NOT_ASKED), said("d")],
            SymbolsWord(known=False, reason=UNKNOWN, message="of a; of c"),
            id="unknown ones go first",
        ),
        pytest.param([said("a", "Other")], SymbolsWord(known=True), id="a word of another version"),
    ],
)
def test_what_all_sources_say(reports: list[ServiceReport | None], expected: SymbolsWord | None) -> None:
    assert word_of(reports, NOW) == expected
    assert word_of(reports[::-1], NOW) == expected


def test_however_many_symbols_there_are_they_leave_room_for_the_next_step() -> None:
    assert listed(["A"]) == "A"
    assert listed([f"S{number}" for number in range(10)]) == "S0, S1, S2, S3, S4, S5, S6, S7, S8, S9"
    many = listed(["X" * 30] * 1024)
    assert many.endswith(" and 1014 more")
    assert len(many) < LONGEST_PROBLEM / 2
