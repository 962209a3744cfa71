"""A decision as figures: what it was made from, why, and what held it back."""

from __future__ import annotations

from dataclasses import replace

from k2_core.controller.figures import LOAD, WORDS, load, words
from k2_core.policy.observation import Observation
from support.decided_by import CALM, decision


def test_what_it_was_made_from() -> None:
    found = load(decision(replace(CALM, oldest_unread_age_s=3.0, oldest_uncommitted_age_s=7.0)))
    assert found.keys() == LOAD.keys()
    names = ("offered_records_per_second", "shed_records_per_second", "memory_ratio", "unread_age_seconds")
    assert [found[name] for name in names] == [
        CALM.offered_per_s,
        CALM.shed_per_s,
        CALM.memory_ratio,
        3.0,
    ]
    assert found["uncommitted_age_seconds"] == 7.0


def test_what_is_not_known_is_none() -> None:
    assert set(load(decision(Observation(replicas=2))).values()) == {None}


def test_why_and_what_holds_it_and_what_is_missing() -> None:
    found = words(decision(Observation(replicas=2)))
    assert found.keys() == WORDS.keys()
    assert ("level", "MetricsMissing") in found["held"]
    assert ("figures", "memory_ratio") in found["missing"]
    assert {of for of, _ in found["why"]} == {"level", "sinks"}
    assert words(decision())["missing"] == set()
