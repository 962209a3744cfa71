"""The command line run in this process, and a state folder with a pipeline in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli import main
from support.cli import K2, Answer, Lake


@pytest.fixture
def k2(capsys: pytest.CaptureFixture[str]) -> K2:
    """Runs `k2 ARGUMENTS` in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty state folder with a pipeline of BTCUSDT."""
    return Lake(tmp_path / "k2")
