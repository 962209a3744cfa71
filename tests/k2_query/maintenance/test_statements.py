"""Which statements there are, and which days are worth one."""

from __future__ import annotations

import datetime as dt

import pytest

from k2_query.maintenance.statements import SMALL_BYTES, Action, Part, Target, is_checked, is_due, session

TODAY = dt.date(2026, 1, 7)
YESTERDAY = dt.date(2026, 1, 6)
BEFORE = dt.date(2026, 1, 5)
WEEK = dt.timedelta(days=7)
TARGET = Target("lake", "market", "trades")


def part(day: dt.date | None, spare: int = 1, newest: int = 5) -> Part:
    return Part(day, files=2, nbytes=10, spare=spare, newest=newest)


def test_past_days_are_put_together_the_earliest_first_then_comes_what_removes() -> None:
    tasks = TARGET.tasks([part(TODAY), part(YESTERDAY), part(BEFORE)], TODAY, None, WEEK)
    assert [(task.table, task.action, task.day) for task in tasks] == [
        ("trades", Action.OPTIMIZE, BEFORE),
        ("trades", Action.OPTIMIZE, YESTERDAY),
        ("trades", Action.EXPIRE, None),
        ("trades", Action.ORPHANS, None),
    ]
    head = 'ALTER TABLE "lake"."market"."trades" EXECUTE'
    assert [task.text for task in tasks[1:]] == [
        f"{head} optimize(file_size_threshold => '{SMALL_BYTES}B') WHERE CAST(event_time AS DATE) = DATE '2026-01-06'",
        f"{head} expire_snapshots(retention_threshold => '604800s')",
        f"{head} remove_orphan_files(retention_threshold => '604800s')",
    ]


def test_files_that_nothing_names_are_kept_for_a_day_at_least() -> None:
    expire, orphans = TARGET.tasks([], TODAY, None, dt.timedelta(0))
    assert "'0s'" in expire.text
    assert "'86400s'" in orphans.text


def test_a_table_without_days_is_put_together_whole() -> None:
    first, *_ = TARGET.tasks([part(None)], TODAY, None, WEEK)
    assert first.text.endswith(f"EXECUTE optimize(file_size_threshold => '{SMALL_BYTES}B')")


def test_names_are_quoted() -> None:
    [first, _] = Target('la"ke', "market", "trades").tasks([], TODAY, None, WEEK)
    assert first.text.startswith('ALTER TABLE "la""ke"."market"."trades" EXECUTE ')


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (part(YESTERDAY), True),
        (part(None), True),
        (part(TODAY), False),
        (part(YESTERDAY, spare=0), False),
        (part(None, spare=0), False),
    ],
    ids=["yesterday", "no-days", "today", "one-file", "no-days-one-file"],
)
def test_a_day_is_due_when_it_is_past_and_fewer_files_would_hold_it(found: Part, due: bool) -> None:
    assert is_due(found, TODAY) is due


@pytest.mark.parametrize(("checked", "expected"), [(None, True), (5, True), (4, False)])
def test_what_enrichment_has_not_looked_at_waits(checked: int | None, expected: bool) -> None:
    assert is_checked(part(YESTERDAY, newest=5), checked) is expected
    tasks = TARGET.tasks([part(YESTERDAY, newest=5)], TODAY, checked, WEEK)
    assert (tasks[0].action is Action.OPTIMIZE) is expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (7, {}),
        (30, {}),
        (3, {"lake.expire_snapshots_min_retention": "259200s", "lake.remove_orphan_files_min_retention": "259200s"}),
        (0, {"lake.expire_snapshots_min_retention": "0s", "lake.remove_orphan_files_min_retention": "86400s"}),
    ],
)
def test_trinos_own_limits_are_lowered_as_far_as_is_needed_and_no_further(days: int, expected: dict[str, str]) -> None:
    assert session("lake", dt.timedelta(days=days)) == expected
