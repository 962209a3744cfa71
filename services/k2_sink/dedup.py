"""Exact deduplication: which ids a table holds, as intervals per (exchange, market, symbol).

Where a venue counts trades without gaps, remembering every id costs as much memory as there are gaps. Ids of a batch
are kept apart as pending and enter the set only when the commit that holds them is confirmed. Rows without a sequence
are not looked at. Called by the sink's batch; never talks to Kafka or a catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.intervals import Bools, Int64s, IntervalSet, increasing

IdSpace = tuple[str, str, str]
"""Where one count of ids runs: exchange, market, symbol."""

_KEY_COLUMNS = ("exchange", "market", "symbol")


@dataclass(slots=True)
class SeenIds:
    """The ids of a table's rows, and those of rows on their way into it."""

    committed: dict[IdSpace, IntervalSet] = field(default_factory=dict)
    pending: dict[IdSpace, IntervalSet] = field(default_factory=dict)

    def duplicates(self, rows: pa.Table) -> tuple[Bools, dict[IdSpace, IntervalSet]]:
        """Return for each row whether its id is in the table, the batch or a row before, and the ids of the others.

        Nothing is remembered: whoever takes the others into the batch calls `expect` with their ids.
        """
        repeated: Bools = np.zeros(rows.num_rows, dtype=np.bool_)
        fresh: dict[IdSpace, IntervalSet] = {}
        for space, where in id_spaces(rows).items():
            ids = _sequences(rows, where)
            known = self.committed.get(space, IntervalSet()).contains(ids)
            known |= self.pending.get(space, IntervalSet()).contains(ids)
            known |= _repeats(ids)
            repeated[where] = known
            fresh[space] = IntervalSet.of_values(ids[~known])
        return repeated, fresh

    def expect(self, ids: Mapping[IdSpace, IntervalSet]) -> None:
        """Count ids as pending: their rows are in the batch."""
        add_ids(self.pending, ids)

    def confirm(self) -> None:
        """Take the pending ids into the set: the commit that holds them has landed."""
        add_ids(self.committed, self.pending)
        self.pending = {}

    def drop_pending(self) -> None:
        """Forget the pending ids: their batch was dropped."""
        self.pending = {}


def add_ids(target: dict[IdSpace, IntervalSet], more: Mapping[IdSpace, IntervalSet]) -> None:
    """Unite `more` into `target`, space by space."""
    for space, ids in more.items():
        target[space] = target.get(space, IntervalSet()).union(ids)


def ids_of(rows: pa.Table) -> dict[IdSpace, IntervalSet]:
    """Return the ids of rows that have the key columns and `sequence`."""
    return {space: IntervalSet.of_values(_sequences(rows, where)) for space, where in id_spaces(rows).items()}


def id_spaces(rows: pa.Table) -> dict[IdSpace, Int64s]:
    """Return the row numbers of each id space, in order; rows without a sequence are in none."""
    codes: Int64s = np.zeros(rows.num_rows, dtype=np.int64)
    values: list[list[str]] = []
    for name in _KEY_COLUMNS:
        coded = pc.dictionary_encode(rows.column(name)).unify_dictionaries().combine_chunks()
        values.append(coded.dictionary.to_pylist())
        codes = codes * max(len(values[-1]), 1) + coded.indices.to_numpy()
    numbered = np.flatnonzero(pc.is_valid(rows.column("sequence")).to_numpy())
    order = numbered[np.argsort(codes[numbered], kind="stable")]
    if not order.size:
        return {}
    ordered = codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return {
        _space(int(code), values): where
        for code, where in zip(ordered[starts], np.split(order, starts[1:]), strict=True)
    }


def _space(code: int, values: list[list[str]]) -> IdSpace:
    code, symbol = divmod(code, len(values[2]))
    exchange, market = divmod(code, len(values[1]))
    return values[0][exchange], values[1][market], values[2][symbol]


def _sequences(rows: pa.Table, where: Int64s) -> Int64s:
    column = rows.column("sequence")
    filled = pc.fill_null(column, 0) if column.null_count else column
    ids: Int64s = filled.to_numpy()[where]
    return ids


def _repeats(ids: Int64s) -> Bools:
    """Return for each id whether it stands earlier in the same array."""
    if increasing(ids):
        return np.zeros(ids.size, dtype=np.bool_)
    repeated: Bools = np.ones(ids.size, dtype=np.bool_)
    repeated[np.unique(ids, return_index=True)[1]] = False
    return repeated
