"""One file on its way into the log: lines in, encoded rows and dead letters out, nothing twice.

Owns the count of rows and which of them the log has already. Called by `service` for each block of lines. Pure but for
the clock that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from k2_core.intervals import IntervalSet
from k2_ingest.files.asx import Parsed, Refused, parse
from k2_ingest.files.encode import RowEncoder
from k2_ingest.files.progress import Progress


@dataclass(frozen=True, slots=True)
class Portion:
    """What a block of lines comes to.

    Args:
        lines: How many there were.
        values: Kafka values of the rows that the log does not have, in order.
        refused: Lines that are no trades and no dead letters yet.
    """

    lines: int
    values: list[bytes]
    refused: list[Refused]


class Loading:
    """The way of one version of a dataset.

    Args:
        encoder: Of it.
        digest: Of its file.
        progress: What the log has of the dataset.

    Attributes:
        rows: Lines that were taken so far.
    """

    def __init__(self, encoder: RowEncoder, digest: str, progress: Progress) -> None:
        self.rows = 0
        self._encoder = encoder
        self._last_row = progress.last_row
        self._letters = progress.letters.get(digest, IntervalSet())

    def take(self, lines: Sequence[bytes], received_ns: int) -> Portion:
        """Take the next lines of the file.

        Args:
            lines: Without their ends.
            received_ns: When they were read, UTC nanoseconds.
        """
        parsed = parse(lines, self.rows + 1)
        self.rows += len(lines)
        # Letters go into another topic than records, so the last record in the log does not prove those before it.
        refused = [one for one in parsed.refused if one.row not in self._letters]
        return Portion(len(lines), self._encoder.encode(self._new(parsed), received_ns // 1_000), refused)

    def _new(self, parsed: Parsed) -> Parsed:
        """Return the rows that the log does not have."""
        if not parsed.rows or parsed.rows[0] > self._last_row:
            return parsed
        new = [row > self._last_row for row in parsed.rows]
        return Parsed(
            list(compress(parsed.rows, new)),
            list(compress(parsed.prices, new)),
            list(compress(parsed.quantities, new)),
            list(compress(parsed.exchange_us, new)),
            list(compress(parsed.vendor, new)),
        )
