"""The JSON beside a read position: both ways, what is none of ours, and which report of a sink counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_core.sink_report import FRESH_S, SinkReport, newest
from k2_core.types import Level

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
BARE = SinkReport("sink-0/17", AT)
FULL = SinkReport(
    "sink-0/17", AT, Level.AGGRESSIVE, Level.SOFT, 12_000_000, 9, 0.25, True, 1.5, 2.5, 7, 11, AT - timedelta(minutes=3)
)


@pytest.mark.parametrize("report", [BARE, FULL], ids=["bare", "full"])
def test_what_is_told_is_what_is_heard(report: SinkReport) -> None:
    assert SinkReport.parse(report.dump()) == report


def test_it_fits_beside_a_position_many_times_over() -> None:
    assert len(FULL.dump()) < 400


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "[]",
        "7",
        FULL.dump().replace('"level":3', '"level":9'),
        FULL.dump().replace('"accepted":12000000', '"accepted":-1'),
        FULL.dump().replace('"accepted":12000000', '"accepted":1.5'),
        FULL.dump().replace('"accepted":12000000', '"accepted":true'),
        FULL.dump().replace('"failing":true', '"failing":"no"'),
        FULL.dump().replace('"memory_ratio":0.25', '"memory_ratio":NaN'),
        FULL.dump().replace('"standing_s":2.5', '"standing_s":-1'),
        FULL.dump().replace('"waiting":11', '"waiting":-1'),
        FULL.dump().replace('"at":"2026', '"at":"soon'),
        BARE.dump().replace('"at":"2026-03-01T12:00:00.250000Z"', '"at":null'),
        FULL.dump().replace('"shed":', '"shod":'),
    ],
    ids=[
        *("none", "empty", "no-keys", "list", "number", "no-such-level", "negative", "fraction", "truth", "no-truth"),
        *("not-a-number", "below-0", "nothing-waits", "no-time", "null-time", "other-key"),
    ],
)
def test_what_others_wrote_is_no_report(text: str | None) -> None:
    assert SinkReport.parse(text) is None


def test_it_is_fresh_for_a_while() -> None:
    assert BARE.fresh(AT + timedelta(seconds=FRESH_S - 0.01))
    assert not BARE.fresh(AT + timedelta(seconds=FRESH_S))


def test_the_newest_of_each_sink_counts_whatever_the_order() -> None:
    later = replace(BARE, at=AT + timedelta(seconds=1), accepted=5)
    other = replace(BARE, sink="sink-1/4")
    assert newest([later, None, BARE, other]) == {"sink-0/17": later, "sink-1/4": other}
