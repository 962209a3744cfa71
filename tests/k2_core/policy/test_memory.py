"""The stored form of the state."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from k2_core.errors import StateError
from k2_core.policy.decision import PolicyState
from k2_core.policy.memory import from_dict, to_dict
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from support.policy import Driver


@pytest.fixture
def busy() -> PolicyState:
    """A state with everything in it: a change under way, figures, a window, a level."""
    driver = Driver(PolicyConfig(DegradationConfig(Mode.AUTO), ScalingConfig(Mode.AUTO)))
    driver.looks(60)
    driver.looks(10, unread_records=50_000, offered_per_s=400.0, rebalancing=True)
    driver.looks(60, unread_records=50_000, offered_per_s=400.0)
    assert driver.state.scaling.change is not None
    assert any(driver.state.scaling.throughputs)
    assert driver.state.scaling.at_least_per_s
    return driver.state


def test_it_comes_back_equal_through_json(busy: PolicyState) -> None:
    for state in (busy, PolicyState()):
        assert from_dict(json.loads(json.dumps(to_dict(state), allow_nan=False))) == state


def test_the_format_before_is_read(busy: PolicyState) -> None:
    stored = to_dict(busy)
    stored["format"] = 1
    for name in ("at_least_per_s", "onset_per_s", "owed_records"):
        del stored["scaling"][name]
    scaling = from_dict(stored).scaling
    assert (scaling.at_least_per_s, scaling.onset_per_s) == (None, None)
    assert scaling.throughputs == busy.scaling.throughputs


def test_levels_come_back_as_levels(busy: PolicyState) -> None:
    """A number that is equal is not enough: rules ask whether two levels are the same."""
    change = from_dict(to_dict(busy)).scaling.change
    assert change is not None
    assert busy.scaling.change is not None
    assert change.level is busy.scaling.change.level
    assert from_dict(to_dict(busy)).level.level is busy.level.level


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda stored: stored.update(format=3), "found format 3, expected 2 or 1"),
        (lambda stored: stored.pop("format"), "found format None, expected 2 or 1"),
        (lambda stored: stored.update(format=1, scaling=None), "scaling: found None"),
        (lambda stored: stored.pop("level"), "level: found None"),
        (lambda stored: stored["signals"].pop("time_s"), "signals: found"),
        (lambda stored: stored["scaling"].update(more=1), "scaling: found"),
        (lambda stored: stored["level"].update(level=7), "7 is not a valid Level"),
        (lambda stored: stored["scaling"].update(throughputs=[1.0]), "found 1 figures, expected 5"),
        (lambda stored: stored["scaling"].update(window=[[1]]), "not enough values"),
        (lambda stored: stored["scaling"]["change"].pop("level"), "change: found"),
        (lambda stored: stored["signals"].update(time_s="5"), "signals.time_s: found '5', expected float"),
        (lambda stored: stored["level"].update(calm_s=None), "level.calm_s: found None, expected float"),
        (lambda stored: stored["level"].update(relapses=True), "level.relapses: found True, expected int"),
    ],
    ids=[
        "newer",
        "no format",
        "older",
        "no level",
        "no time",
        "more",
        "level 7",
        "few figures",
        "window",
        "change",
        "text",
        "null",
        "boolean",
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    busy: PolicyState, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    stored = json.loads(json.dumps(to_dict(busy)))
    spoil(stored)
    with pytest.raises(StateError, match=message):
        from_dict(stored)
