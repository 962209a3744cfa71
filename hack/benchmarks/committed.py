"""What a trades table itself tells of a run: when each record was committed, and that each id is there once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from k2_core.errors import SetupError
from k2_core.state import STATE_KEY, CommitState, PartitionState
from k2_core.types import Partition, TopicName

Commit = tuple[float, Mapping[Partition, PartitionState]]
"""When it was, in seconds of the epoch, and where the table stood then."""


def commits_of(table: Table, topic: TopicName) -> list[Commit]:
    """Return the commits of a topic that the table still knows, oldest first."""
    found = []
    for snapshot in sorted(table.snapshots(), key=lambda one: one.sequence_number or 0):
        assert snapshot.summary is not None
        state = CommitState.parse(snapshot.summary.additional_properties[STATE_KEY])
        if (own := state.topics.get(topic)) is not None:
            found.append((snapshot.timestamp_ms / 1e3, own.partitions))
    return found


def committed_s(commits: Sequence[Commit], partition: Any, offset: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return when each record was taken in, in seconds of the epoch.

    That is the time of the first commit whose `next` lies behind the record.

    Args:
        commits: All of them, oldest first; the last one holds every record.
        partition: Of each record, as an array.
        offset: Of each record, as an array.
    """
    times_s = np.array([at_s for at_s, _ in commits])
    taken_s = np.empty(len(offset))
    for number in map(Partition, set(partition.tolist())):
        upto = np.array([ends[number].next if number in ends else 0 for _, ends in commits])
        here = partition == number
        taken_s[here] = times_s[np.searchsorted(upto, offset[here], side="right")]
    return taken_s


def check_ids(rows: pa.Table, expected: Mapping[str, range]) -> None:
    """Refuse a run whose rows do not hold each id of each symbol once, and no other.

    Args:
        rows: With the columns `symbol` and `trade_id`.
        expected: The ids of each symbol.

    Raises:
        SetupError: An id is missing, stands twice or should not be there.
    """
    symbols = set(rows.column("symbol").unique().to_pylist())
    if symbols != expected.keys():
        raise SetupError(f"the table holds the symbols {sorted(symbols)}, expected {sorted(expected)}")
    for symbol, wanted in expected.items():
        own = rows.filter(pc.equal(rows.column("symbol"), symbol)).column("trade_id")
        ids = np.sort(own.cast(pa.int64()).to_numpy())
        if not np.array_equal(ids, np.arange(wanted.start, wanted.stop)):
            lost = len(np.setdiff1d(np.arange(wanted.start, wanted.stop), ids))
            raise SetupError(
                f"{symbol}: found {len(ids)} rows with {len(np.unique(ids))} ids, {lost} of the expected ones missing; "
                f"expected the ids {wanted.start} to {wanted.stop - 1}, each once"
            )


def check_table(table: Table | None, expected: Mapping[str, range]) -> None:
    """Refuse a run whose table does not hold each id of each symbol once; see `check_ids`."""
    if table is None:
        raise SetupError("found no table, expected one with the run's trades")
    check_ids(table.scan(selected_fields=("symbol", "trade_id")).to_arrow(), expected)
