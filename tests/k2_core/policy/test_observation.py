"""Missing is missing, and how long sinks may stand still."""

from __future__ import annotations

import math

import pytest

from k2_core.policy.observation import Observation, missing, outage_budget_s


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -1.0], ids=["none", "nan", "inf", "negative"])
def test_a_figure_that_is_none_is_missing(value: float | None) -> None:
    seen = Observation(offered_per_s=value, accepted_per_s=0)
    assert missing(seen, ("offered_per_s", "accepted_per_s")) == ("offered_per_s",)


def test_the_budget_is_what_retention_leaves_to_the_oldest() -> None:
    seen = Observation(
        oldest_unread_age_s=10, oldest_uncommitted_age_s=40, oldest_deferred_age_s=100, retention_s=1_000
    )
    assert outage_budget_s(seen) == 900


@pytest.mark.parametrize(("size_retention_s", "left_s"), [(300, 250), (2_000, 900)], ids=["bytes", "time"])
def test_of_time_and_bytes_that_counts_which_leaves_less(size_retention_s: float, left_s: float) -> None:
    seen = Observation(
        oldest_unread_age_s=10,
        oldest_uncommitted_age_s=40,
        oldest_deferred_age_s=100,
        retention_s=1_000,
        size_retention_s=size_retention_s,
        size_age_s=50,
    )
    assert outage_budget_s(seen) == left_s


def test_the_budget_is_not_below_nothing() -> None:
    seen = Observation(oldest_unread_age_s=0, oldest_uncommitted_age_s=0, oldest_deferred_age_s=20, retention_s=10)
    assert outage_budget_s(seen) == 0


@pytest.mark.parametrize(
    "seen",
    [
        Observation(oldest_unread_age_s=0, oldest_uncommitted_age_s=0, oldest_deferred_age_s=0),
        Observation(oldest_unread_age_s=0, oldest_uncommitted_age_s=0, retention_s=10),
    ],
    ids=["retention", "an age"],
)
def test_the_budget_is_unknown_without(seen: Observation) -> None:
    assert outage_budget_s(seen) is None
