"""Which data files another engine made of rows that were in the table before.

Called by whoever goes through a table commit by commit. Pure.
"""

from __future__ import annotations

from pyiceberg.manifest import ManifestEntry


def is_rewritten(entry: ManifestEntry) -> bool:
    """Return whether a file holds rows of earlier commits.

    A rewrite gives its files the data sequence number of the snapshot that it read, so that deletes apply to them as
    before, and as files they have that of its own snapshot (https://iceberg.apache.org/spec/#sequence-numbers). What a
    sink appends has the same number for both.
    """
    return entry.file_sequence_number != entry.sequence_number
