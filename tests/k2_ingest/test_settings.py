"""The ingest's own variables: names, defaults and limits."""

from __future__ import annotations

import pytest

from k2_core.config import read_settings
from k2_core.errors import SpecError
from k2_ingest.settings import IngestSettings


def test_nothing_needs_to_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("K2_INGEST_URL", "K2_INGEST_REST_URL", "K2_INGEST_STOP_AT_END"):
        monkeypatch.delenv(name, raising=False)
    settings = read_settings(IngestSettings)
    assert settings.ingest_url is None
    assert settings.ingest_stop_at_end is False
    assert settings.ingest_flush_timeout_s < 60, "a pod is killed after 60 s"


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_INGEST_URL", "ws://127.0.0.1:9443")
    monkeypatch.setenv("K2_INGEST_QUEUE_RECORDS", "5000")
    settings = read_settings(IngestSettings)
    assert (settings.ingest_url, settings.ingest_queue_records) == ("ws://127.0.0.1:9443", 5000)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("K2_INGEST_URL", "ws://127.0.0.1:9443/ws", id="a path"),
        pytest.param("K2_INGEST_URL", "http://127.0.0.1:9443", id="not a WebSocket"),
        pytest.param("K2_INGEST_TIME_UNIT", "second", id="a unit that no venue has"),
        pytest.param("K2_INGEST_QUEUE_RECORDS", "10", id="a queue too short"),
        pytest.param("K2_INGEST_SYMBOLS_PAUSE_S", "0", id="no pause between questions"),
        pytest.param("K2_INGEST_FLUSH_TIMEOUT_S", "0", id="no time to flush"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SpecError, match=variable):
        read_settings(IngestSettings)
