"""What tells files that were rewritten; that Trino writes them so is seen in test_upkeep.py."""

from __future__ import annotations

import pytest
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus

from k2_core.rewritten import is_rewritten


@pytest.mark.parametrize(
    ("sequence_number", "file_sequence_number", "expected"),
    [(4, 4, False), (4, 5, True), (None, None, False)],
    ids=["appended", "rewritten", "format-1"],
)
def test_a_file_of_earlier_rows_has_two_numbers(
    sequence_number: int | None, file_sequence_number: int | None, expected: bool
) -> None:
    entry = ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED,
        snapshot_id=1,
        sequence_number=sequence_number,
        file_sequence_number=file_sequence_number,
        data_file=DataFile.from_args(),
    )
    assert is_rewritten(entry) is expected
