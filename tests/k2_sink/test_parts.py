"""What a sink is put together from, where nobody says otherwise."""

from __future__ import annotations

from dataclasses import fields

from k2_core.types import Level
from k2_sink.drain import DRAIN_RECORDS_PER_S
from k2_sink.parts import Parts


def test_a_sink_that_is_told_nothing_defers_nothing() -> None:
    defaults = {one.name: one.default for one in fields(Parts)}
    level = defaults["level"]
    assert callable(level)
    assert level() is Level.NORMAL
    assert defaults["drain_records_per_s"] == DRAIN_RECORDS_PER_S
