"""Real market-data captures for tests marked `captures`: where they are, and what their absence means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def capture_files(folder: str, pattern: str) -> list[Path]:
    """The files of one data folder; without them the test is skipped, and fails under `CI`."""
    base = Path(os.environ.get("K2_TEST_DATA", ROOT.parent / "shared" / "data"))
    files = sorted((base / folder).glob(pattern))
    if not files:
        pytest.skip(f"needs captures: {base / folder} holds no {pattern}; set K2_TEST_DATA to the folder of the data")
    return files
