"""The sink's own variables: names, defaults and limits."""

from __future__ import annotations

import pytest

from k2_core.config import read_settings
from k2_core.errors import SpecError
from k2_sink.settings import SinkSettings


def test_defaults_suit_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("K2_SINK_DRAIN_TIMEOUT_S", "K2_SINK_STOP_AT_END", "K2_SINK_SESSION_TIMEOUT_S"):
        monkeypatch.delenv(name, raising=False)
    settings = read_settings(SinkSettings)
    assert (settings.sink_drain_timeout_s, settings.sink_session_timeout_s, settings.sink_stop_at_end) == (
        30,
        10,
        False,
    )


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_SINK_DRAIN_TIMEOUT_S", "2.5")
    monkeypatch.setenv("K2_SINK_STOP_AT_END", "true")
    settings = read_settings(SinkSettings)
    assert (settings.sink_drain_timeout_s, settings.sink_stop_at_end) == (2.5, True)


@pytest.mark.parametrize("variable", ["K2_SINK_DRAIN_TIMEOUT_S", "K2_SINK_SESSION_TIMEOUT_S"])
def test_times_below_their_limit_are_refused_by_name(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "-1")
    with pytest.raises(SpecError, match=variable):
        read_settings(SinkSettings)
