"""Scaling and degradation: their modes, and maxima below what they bound. Defaults: policy/test_configured.py."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from k2_core.spec_policy import DegradationSpec, ScalingSpec


@pytest.mark.parametrize("model", [ScalingSpec, DegradationSpec])
class TestModes:
    @pytest.mark.parametrize("mode", ["Auto", "Recommend", "Off"])
    def test_each(self, model: type[ScalingSpec | DegradationSpec], mode: str) -> None:
        assert model.model_validate({"mode": mode}).mode == mode

    def test_off_by_default(self, model: type[ScalingSpec | DegradationSpec]) -> None:
        assert model().mode == "Off"

    def test_a_bare_off_is_explained(self, model: type[ScalingSpec | DegradationSpec]) -> None:
        with pytest.raises(ValidationError, match="in quotes: YAML reads a bare Off as false"):
            model.model_validate({"mode": False})

    def test_others(self, model: type[ScalingSpec | DegradationSpec]) -> None:
        with pytest.raises(ValidationError, match="'Auto', 'Recommend' or 'Off'"):
            model.model_validate({"mode": "On"})


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        pytest.param(
            {"minReplicas": 4, "maxReplicas": 3}, "found 3, expected at least minReplicas, 4", id="fewer-than-the-least"
        ),
        pytest.param({"minReplicas": 51}, "found 50, expected at least minReplicas, 51", id="fewer-by-default"),
        pytest.param(
            {"targetUtilization": 0.9}, "found 0.85, expected above targetUtilization, 0.9", id="no-band-by-default"
        ),
        pytest.param(
            {"targetUtilization": 0.8, "maxUtilization": 0.8},
            "found 0.8, expected above targetUtilization, 0.8",
            id="no-band",
        ),
    ],
)
def test_contradictions(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ScalingSpec.model_validate(settings)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"minReplicas": 3, "maxReplicas": 3}, {"targetUtilization": 0.84}], ids=["one-number", "narrow-band"]
)
def test_what_is_just_not_one(settings: dict[str, Any]) -> None:
    assert ScalingSpec.model_validate(settings).model_dump(by_alias=True, exclude_unset=True) == settings


def test_what_was_deferred_is_read_back_at_a_rate() -> None:
    assert DegradationSpec().drain_records_per_second == 20_000
