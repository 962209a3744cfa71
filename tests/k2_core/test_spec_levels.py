"""The thresholds as a user writes them: what is left out, what lies too close, and which field is named."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from k2_core.policy.thresholds import DEFAULT_LEVELS, LevelThresholds
from k2_core.spec_levels import LevelsSpec
from k2_core.types import Level


def test_the_defaults_are_the_policys() -> None:
    assert LevelsSpec().thresholds == DEFAULT_LEVELS


def test_what_is_set_is_what_the_policy_gets() -> None:
    soft = {
        "enterUnreadRecords": 900,
        "enterAgeSeconds": 9,
        "enterMemoryRatio": 0.6,
        "exitUnreadRecords": 500,
        "exitAgeSeconds": 5,
        "exitMemoryRatio": 0.3,
    }
    broken = {"enterAgeSeconds": 600, "exitUnreadRecords": 90_000, "exitMemoryRatio": 0.65}
    thresholds = LevelsSpec.model_validate({"soft": soft, "circuitBreak": broken}).thresholds
    assert thresholds[Level.SOFT] == LevelThresholds(900, 9, 0.6, 500, 5, 0.3)
    assert thresholds[Level.CIRCUIT_BREAK] == LevelThresholds(1_000_000, 600, 0.95, 90_000, 420, 0.65)
    assert {level: thresholds[level] for level in (Level.GRACEFUL, Level.AGGRESSIVE)} == {
        level: DEFAULT_LEVELS[level] for level in (Level.GRACEFUL, Level.AGGRESSIVE)
    }


def test_an_exit_follows_its_entry_where_it_is_left_out() -> None:
    thresholds = LevelsSpec.model_validate({"graceful": {"enterAgeSeconds": 40}}).thresholds[Level.GRACEFUL]
    assert thresholds.exit_age_s == pytest.approx(28)


def test_level_4_has_no_exit_by_age() -> None:
    """A trial ends it, and that does not look at age."""
    assert math.isinf(LevelsSpec().thresholds[Level.CIRCUIT_BREAK].enter_age_s)
    with pytest.raises(ValidationError, match="exitAgeSeconds\\n  Extra inputs are not permitted"):
        LevelsSpec.model_validate({"circuitBreak": {"exitAgeSeconds": 5}})


@pytest.mark.parametrize(
    ("levels", "field", "found", "expected"),
    [
        pytest.param(
            {"graceful": {"enterUnreadRecords": 1_000}},
            "graceful.enterUnreadRecords",
            "1000",
            "above 1000, that of soft",
            id="entries-equal",
        ),
        pytest.param(
            {"circuitBreak": {"enterAgeSeconds": 60}},
            "circuitBreak.enterAgeSeconds",
            "60",
            "above 120, that of aggressive",
            id="entry-below",
        ),
        pytest.param(
            {"aggressive": {"exitMemoryRatio": 0.5}},
            "aggressive.exitMemoryRatio",
            "0.5",
            "above 0.56, that of graceful",
            id="exit-below",
        ),
        pytest.param(
            {"circuitBreak": {"exitUnreadRecords": 700_001}},
            "circuitBreak.exitUnreadRecords",
            "700001",
            "above 0 and at least 30 % below the entry 1000000, at most 700000",
            id="exit-too-near",
        ),
    ],
)
def test_a_contradiction_names_the_field(levels: dict[str, Any], field: str, found: str, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LevelsSpec.model_validate(levels)
    (error,) = caught.value.errors()
    assert error["ctx"] == {"field": field, "found": found, "expected": expected}


@pytest.mark.parametrize("ratio", [0, 1.01], ids=["nothing", "more-than-all"])
def test_memory_is_a_share(ratio: float) -> None:
    with pytest.raises(ValidationError, match=r"enterMemoryRatio\n  Input should be"):
        LevelsSpec.model_validate({"circuitBreak": {"enterMemoryRatio": ratio}})
