"""Which level sinks keep: the highest that one which says so now was commanded, and unknown while one is silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_core.controller.kept import WAIT_FOR_S, kept_level
from k2_core.controller.look import Look
from k2_core.errors import KafkaUnavailableError
from k2_core.sink_report import FRESH_S, SinkReport
from k2_core.types import Level

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def report(level: Level, age_s: float = 0.5, own_level: Level = Level.NORMAL) -> SinkReport:
    return SinkReport(f"sink-0/{int(level)}", AT - timedelta(seconds=age_s), level, own_level)


def look(*reports: SinkReport, members: int = 1) -> Look:
    return Look(AT, reports={one.sink: one for one in reports}, members=members)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(look(members=0), Level.NORMAL, id="no sink ever"),
        pytest.param(look(), Level.NORMAL, id="a sink that has never spoken"),
        pytest.param(look(report(Level.NORMAL)), Level.NORMAL, id="level 0"),
        pytest.param(look(report(Level.GRACEFUL)), Level.GRACEFUL, id="level 2"),
        pytest.param(look(report(Level.SOFT), report(Level.AGGRESSIVE), members=2), Level.AGGRESSIVE, id="highest"),
        pytest.param(look(report(Level.NORMAL, own_level=Level.AGGRESSIVE)), Level.NORMAL, id="raised by itself"),
        pytest.param(look(report(Level.SOFT, own_level=Level.AGGRESSIVE)), Level.SOFT, id="both"),
        pytest.param(look(report(Level.GRACEFUL, FRESH_S), members=0), Level.NORMAL, id="gone"),
        pytest.param(look(report(Level.SOFT), report(Level.AGGRESSIVE, FRESH_S)), Level.SOFT, id="one of them gone"),
        pytest.param(look(report(Level.GRACEFUL, WAIT_FOR_S)), Level.NORMAL, id="hangs"),
        pytest.param(look(report(Level.NORMAL, FRESH_S)), Level.NORMAL, id="silent, at level 0"),
        pytest.param(
            look(report(Level.SOFT, FRESH_S), report(Level.GRACEFUL), members=2), Level.GRACEFUL, id="no higher"
        ),
    ],
)
def test_what_sinks_keep(seen: Look, expected: Level) -> None:
    assert kept_level(seen) is expected


@pytest.mark.parametrize("age_s", [FRESH_S, WAIT_FOR_S - 0.1])
@pytest.mark.parametrize("others", [0, 1])
def test_a_member_that_spoke_a_moment_ago_is_waited_for(age_s: float, others: int) -> None:
    seen = look(report(Level.GRACEFUL, age_s), *[report(Level.SOFT)] * others, members=1 + others)
    with pytest.raises(KafkaUnavailableError, match=rf"found {age_s:.0f} s of silence of one, expected its word"):
        kept_level(seen)
