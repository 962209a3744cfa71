"""k2_cli.recovery.options."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli.folder import DEFAULT_DIR
from k2_cli.recovery.options import with_directory

REFUSAL = "sink-0 refuses: found `x`. To go on: `k2 adopt`; to go back: `k2 rollback --to 7`"


@pytest.mark.parametrize(
    ("directory", "says"),
    [
        pytest.param(DEFAULT_DIR, REFUSAL, id="the usual folder needs no word"),
        pytest.param(
            Path("/d"),
            "sink-0 refuses: found `x`. To go on: `k2 adopt --dir /d`; to go back: `k2 rollback --to 7 --dir /d`",
            id="another folder",
        ),
    ],
)
def test_a_refusal_names_commands_that_can_be_pasted(directory: Path, says: str) -> None:
    assert with_directory(REFUSAL, directory) == says
