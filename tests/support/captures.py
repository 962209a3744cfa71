"""Real market-data captures for tests marked `captures`: where they are, and what their absence means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def captures_folder(folder: str) -> Path:
    """One data folder of the captures: of those that K2_TEST_DATA names, or of captures beside the project.

    Beside the project is any `data` in a folder next to it. The path need not exist: then it is where to put them.
    """
    if named := os.environ.get("K2_TEST_DATA"):
        return Path(named) / folder
    return next(iter(sorted(ROOT.parent.glob(f"*/data/{folder}"))), ROOT.parent / "captures" / "data" / folder)


def capture_files(folder: str, pattern: str) -> list[Path]:
    """The files of one data folder; without them the test is skipped, and fails under `CI`."""
    where = captures_folder(folder)
    files = sorted(where.glob(pattern))
    if not files:
        pytest.skip(f"needs captures: {where} holds no {pattern}; set K2_TEST_DATA to the folder of the data")
    return files
