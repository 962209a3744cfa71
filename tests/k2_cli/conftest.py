"""A state folder with a pipeline in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty state folder with a pipeline of BTCUSDT."""
    return Lake(tmp_path / "k2")
