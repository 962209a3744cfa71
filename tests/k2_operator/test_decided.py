from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from k2_core.control import Override
from k2_core.controller.stall import Stall
from k2_core.policy.thresholds import Mode
from k2_core.types import Level
from k2_operator.decided import Decided, changes, news, shown, steady, taken, verdict
from support.decided_by import CALM, config, decision, tick

CALMLY = decision()
STORM = decision(replace(CALM, unread_records=20_000, oldest_unread_age_s=60, offered_per_s=3_000.0))
OFF = decision(settings=config(Mode.OFF, Mode.OFF))
STALL = Stall(31.0, 7, ("pod/1/ab",))
NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T01:00:00Z"
OVERRIDE = Override(
    Level.AGGRESSIVE,
    "the store is moved",
    "anna",
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=1),
)


def after(*decisions: Any, **more: Any) -> Decided:
    found = Decided()
    for one in decisions:
        found = taken(found, tick(one, **more), told=True)
    return found


class TestLevel:
    def test_nothing_is_known_before_the_first_turn(self) -> None:
        assert (Decided().level, Decided().sinks, Decided().lacks, Decided().released) == (None, None, True, False)

    def test_a_person_goes_before_the_policy(self) -> None:
        assert after(CALMLY).level is Level.NORMAL
        assert after(CALMLY, override=OVERRIDE).level is Level.AGGRESSIVE

    def test_what_an_idle_pipeline_does_not_have_is_no_lack(self) -> None:
        assert not after(decision(replace(CALM, commit_duration_s=None))).lacks
        assert after(decision(replace(CALM, unread_records=None))).lacks

    def test_it_is_released_once_services_know_that_both_modes_are_off(self) -> None:
        assert after(OFF).released
        assert not replace(after(OFF), told=False).released
        assert not after(decision(settings=config(Mode.OFF, Mode.RECOMMEND))).released


class TestNews:
    @pytest.mark.parametrize(
        ("new", "expected"),
        [
            pytest.param(after(CALMLY, replace(CALMLY, now_s=2_000_000.0)), False, id="only the time"),
            pytest.param(after(CALMLY, decision(replace(CALM, offered_per_s=200))), False, id="figures"),
            pytest.param(after(CALMLY, STORM), True, id="level"),
            pytest.param(after(CALMLY, override=OVERRIDE), True, id="override"),
            pytest.param(replace(after(CALMLY), lacking=True), True, id="lacking"),
            pytest.param(replace(after(CALMLY), problem="x"), True, id="refused"),
            pytest.param(replace(after(CALMLY), stall=STALL), True, id="stalled"),
            pytest.param(after(CALMLY, decision(replace(CALM, oldest_uncommitted_age_s=900))), True, id="risk"),
        ],
    )
    def test_what_a_reconcile_is_woken_for(self, new: Decided, expected: bool) -> None:
        assert news(after(CALMLY), new) is expected


def test_that_it_still_hangs_is_no_news_and_no_other_message() -> None:
    first, later = (replace(after(CALMLY), stall=one) for one in (STALL, replace(STALL, seconds=99, unread_records=8)))
    assert not news(first, later)
    assert verdict(first) == verdict(later)


class TestShown:
    def test_a_decision(self) -> None:
        found = shown(after(CALMLY, override=OVERRIDE), {}, NOW)
        assert found["level"] == {"applied": 0, "recommended": 0, "why": "Steady", "heldBy": [], "since": NOW}
        assert (found["sinks"]["wanted"], found["sinks"]["since"]) == (2, NOW)
        assert found["override"] == {
            "level": 3,
            "by": "anna",
            "until": "2026-01-01T01:00:00Z",
            "reason": "the store is moved",
        }

    def test_since_when_stays_while_what_is_applied_stays(self) -> None:
        before = shown(after(CALMLY), {}, NOW)
        found = shown(after(STORM), before, LATER)
        assert (found["level"]["applied"], found["level"]["since"]) == (2, LATER)
        assert shown(after(CALMLY), before, LATER)["level"]["since"] == NOW

    def test_what_is_not_known_is_left_out(self) -> None:
        found = shown(after(decision(replace(CALM, replicas=None))), {}, NOW)
        assert "wanted" not in found["sinks"]
        assert "replicas" in found["missing"]

    def test_why_it_is_so_is_no_news(self) -> None:
        before = shown(after(CALMLY), {}, NOW)
        other = {**before, "missing": ["x"], "sinks": {**before["sinks"], "heldBy": ["Settling"], "recommended": 3}}
        assert steady(before) == steady(other)
        assert steady(before) != steady({**before, "sinks": {**before["sinks"], "wanted": 3}})
        assert steady(before) != steady({**before, "level": {**before["level"], "recommended": 1}})


class TestVerdict:
    @pytest.mark.parametrize(
        ("decided", "expected"),
        [
            pytest.param(Decided(), None, id="nothing yet"),
            pytest.param(after(CALMLY), (True, "Deciding", ""), id="deciding"),
            pytest.param(replace(Decided(), problem="x"), (False, "Refused", "x; grant it"), id="no right"),
            pytest.param(replace(Decided(), lacking=True), (False, "FiguresMissing", "everything"), id="nothing"),
            pytest.param(
                replace(after(decision(replace(CALM, unread_records=None))), lacking=True),
                (False, "FiguresMissing", "unread_records"),
                id="a figure",
            ),
            pytest.param(
                replace(after(CALMLY), stall=STALL), (False, "SinksStalled", "speak was pod/1/ab. See"), id="stalled"
            ),
            pytest.param(
                replace(after(decision(replace(CALM, oldest_uncommitted_age_s=801))), stall=STALL),
                (False, "RetentionAtRisk", "retention of 1000 s"),
                id="stalled and at risk",
            ),
            pytest.param(
                after(decision(replace(CALM, oldest_uncommitted_age_s=801))),
                (False, "RetentionAtRisk", "retention of 1000 s"),
                id="risk",
            ),
            pytest.param(
                after(decision(replace(CALM, oldest_uncommitted_age_s=799))), (True, "Deciding", ""), id="no risk yet"
            ),
        ],
    )
    def test_the_condition(self, decided: Decided, expected: tuple[bool, str, str] | None) -> None:
        found = verdict(decided)
        assert (found is None) is (expected is None)
        if found is not None and expected is not None:
            assert found[:2] == expected[:2]
            assert expected[2] in found[2]


class TestChanges:
    def test_a_level_is_told_with_the_figures_that_led_to_it(self) -> None:
        decided = after(CALMLY, STORM, replace(STORM, observation=replace(CALM, unread_records=5)))
        before, new = shown(after(CALMLY), {}, NOW), shown(decided, {}, NOW)
        (kind, reason, text), (_, more, _) = changes(before, new, decided)
        assert (kind, reason, more) == ("Warning", "FirstCrossing", "DemandUp")
        assert text.startswith("level 0 to 2 (FirstCrossing): unread_records 20000, oldest_unread_age_s 60")
        kind, _, text = next(changes(new, before, decided))
        assert (kind, text.split(" (")[0]) == ("Normal", "level 2 to 0")

    def test_more_sinks_are_told(self) -> None:
        decided = after(decision(replace(CALM, replicas=5)))
        before, new = shown(after(CALMLY), {}, NOW), shown(decided, {}, NOW)
        [(kind, _, text)] = changes(before, new, decided)
        assert (kind, text.split(" (")[0]) == ("Normal", "sinks 2 to 5")

    def test_a_first_number_is_told_where_it_changes_what_is_there(self) -> None:
        decided = after(STORM)
        reasons = [text.split(" (")[0] for _, _, text in changes({}, shown(decided, {}, NOW), decided)]
        assert reasons == ["level 0 to 2", f"sinks 2 to {decided.sinks}"]

    def test_what_stays_and_a_first_number_are_not(self) -> None:
        decided = after(CALMLY)
        new = shown(decided, {}, NOW)
        assert list(changes({}, new, decided)) == list(changes(new, new, decided)) == []
        assert list(changes(new, {}, decided)) == list(changes({}, new, None)) == []

    def test_a_person_is_told_of_once_and_when_it_is_over(self) -> None:
        decided = after(CALMLY, override=OVERRIDE)
        before, new = shown(after(CALMLY), {}, NOW), shown(decided, {}, NOW)
        [(kind, reason, text)] = changes(before, new, decided)
        assert (kind, reason) == ("Warning", "Override")
        assert text == "level 3 until 2026-01-01T01:00:00Z, not 0: anna: the store is moved"
        assert list(changes(new, new, decided)) == []
        assert [reason for _, reason, _ in changes(new, before, after(CALMLY))] == ["OverrideEnded"]
