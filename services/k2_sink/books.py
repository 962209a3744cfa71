"""The table's books in a scrape: what it has passed of the log, and what became of it.

Both sides are of one head, but come from different hands: where partitions stand, and what was left out, from the
commit state; how many rows there are from the snapshot's own figures, which the library counts file by file. That they
agree is what `k2 audit` proves row by row; here it can be watched. Read when Prometheus asks, never by the hot path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from k2_core.errors import StateError
from k2_core.state import STATE_KEY, CommitState, PartitionState, owed_records

LEFT_OUT: Final = ("duplicates", "dead_letters", "markers", "lost", "unexplained", "aged")
"""Accounts that the state keeps by partition."""
_ROWS: Final = "total-records"
"""In a snapshot's summary (https://iceberg.apache.org/spec/#optional-snapshot-summary-fields)."""


@dataclass(frozen=True, slots=True)
class Books:
    """The sums over all partitions, of topics that were made again too.

    Args:
        passed: Offsets between where the table began and where it stands: next - origin.
        accounts: What became of them, by account: `rows`, `deferred` and those of `LEFT_OUT`.
    """

    passed: int
    accounts: Counter[str]

    @property
    def balanced(self) -> bool:
        """Whether nothing is unaccounted for, and nothing counted twice."""
        return self.passed == self.accounts.total()


class Writer(Protocol):
    """Whoever has the table, as it was loaded or committed last."""

    table: Table


def books_of(metadata: TableMetadata) -> Books | None:
    """Return the books of a table's head, or None where the head does not say how many rows it has.

    Raises:
        StateError: The table's state cannot be read.
    """
    text, head = metadata.properties.get(STATE_KEY), metadata.current_snapshot()
    if text is None or head is None or head.summary is None or _ROWS not in head.summary.additional_properties:
        return None
    state = CommitState.parse(text)
    accounts = Counter(rows=int(head.summary.additional_properties[_ROWS]), deferred=owed_records(state.open_ledger))
    partitions = list(_partitions(state))
    for name in LEFT_OUT:
        accounts[name] = sum(getattr(one, name) for one in partitions)
    return Books(sum(one.next - one.origin for one in partitions), accounts)


def _partitions(state: CommitState) -> Iterable[PartitionState]:
    for topic in state.topics.values():
        for accounts in topic.accounts.values():
            yield from accounts.values()


class BooksCollector(Collector):
    """Shows the books of the head that a sink has seen last, all of one head in each scrape."""

    def __init__(self) -> None:
        self._writer: Writer | None = None

    def watch(self, writer: Writer) -> None:
        """Show the books of this writer's table from now on."""
        self._writer = writer

    def collect(self) -> Iterable[Metric]:
        """Both sides; no sample where they are not known."""
        passed = GaugeMetricFamily("k2_sink_books_passed_offsets", "Offsets that the table has passed, all partitions")
        accounts = GaugeMetricFamily(
            "k2_sink_books_offsets", "What became of them, which is the same in all", labels=["account"]
        )
        try:
            books = None if self._writer is None else books_of(self._writer.table.metadata)
        except StateError:  # policy: the sink itself refuses such a state and says why
            books = None
        if books is not None:
            passed.add_metric([], books.passed)
            for name, number in books.accounts.items():
                accounts.add_metric([name], number)
        yield passed
        yield accounts
