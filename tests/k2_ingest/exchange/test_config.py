"""Values that could only fail later are refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_core.errors import SetupError
from k2_ingest.exchange.config import CaptureSource, ExchangeConfig, SyntheticSource


@pytest.mark.parametrize(
    "source",
    [
        SyntheticSource(rate=-1),
        SyntheticSource(symbols=()),
        CaptureSource(files=()),
        CaptureSource(files=(Path("x"),), speed=-0.5),
    ],
    ids=["rate", "symbols", "files", "speed"],
)
def test_bad_values_are_refused(source: CaptureSource | SyntheticSource) -> None:
    with pytest.raises(SetupError, match=r"found .*, expected"):
        ExchangeConfig(source)


@pytest.mark.parametrize(
    ("source", "full"),
    [(SyntheticSource(rate=0), True), (SyntheticSource(rate=5), False), (CaptureSource((Path("x"),), speed=2), False)],
    ids=["synthetic-full", "synthetic-paced", "capture-paced"],
)
def test_pace_zero_is_full_speed(source: CaptureSource | SyntheticSource, full: bool) -> None:
    assert ExchangeConfig(source).full_speed is full
