"""Keeps the table `ledger`: what levels put off and what came back, from the states in the snapshots of trades.

Called by the sink's loop when there is time; it reads metadata alone, and changes the table `ledger` alone.
"""

from __future__ import annotations

import logging
from typing import Final

from pyiceberg.table import Table

from k2_core.ledger_history import LEDGER, TOLD_KEY, Commit, Told, tell
from k2_core.state import RECOVERY_KEY, STATE_KEY
from k2_core.types import Level
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Tables, Turns, write

MOST_COMMITS: Final = 500
"""In one turn: a fraction of a second in which nothing is read from the log."""

_log = logging.getLogger(__name__)


class LedgerHistory:
    """Tells what commits changed, again and again.

    Args:
        tables: Where.
        metrics: Of the sink.
        turns: How often.
        most: Commits to look at in one turn.
    """

    def __init__(self, tables: Tables, metrics: SinkMetrics, turns: Turns, most: int = MOST_COMMITS) -> None:
        self._tables = tables
        self._metrics = metrics
        self._turns = turns
        self._most = most

    def step(self, level: Level) -> int:
        """Tell some of what is pending, if it is time to, and return how many rows that were.

        Raises:
            StateError: The table is not to be written to, or a state cannot be read.
            RetryableError: Catalog or warehouse is away; it is tried again at the next time.
        """
        if not self._turns.due(level):
            return 0
        trades = self._tables.trades()
        if trades is None or trades.current_snapshot() is None:
            return 0
        ledger = self._tables.projection(LEDGER)
        told = Told.of(ledger.properties)
        with self._metrics.stage("ledger"):
            rows, reached, more = tell(told, str(trades.metadata.table_uuid), commits_of(trades), self._most)
        if reached is told:
            return 0
        if not write(ledger, rows, {TOLD_KEY: reached.dump()}):
            return 0
        if more:
            self._turns.soon()
        self._metrics.projected.labels(LEDGER.name).inc(rows.num_rows)
        _log.info("ledger told", extra={"to_sequence_number": reached.sequence_number, "rows": rows.num_rows})
        return len(rows)


def commits_of(trades: Table) -> list[Commit]:
    """Return the snapshots that a table's metadata lists."""
    return [
        Commit(
            snapshot.sequence_number or 0,
            snapshot.timestamp_ms,
            snapshot.summary.additional_properties.get(STATE_KEY) if snapshot.summary else None,
            snapshot.summary.additional_properties.get(RECOVERY_KEY) if snapshot.summary else None,
        )
        for snapshot in trades.metadata.snapshots
    ]
