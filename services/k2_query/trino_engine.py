"""Trino as the engine of the distributed mode: it reads the pinned snapshot; the log's rows never go there.

What the index of a snapshot rules out is not asked for. An aggregate over table and log is put together here, from
Trino's figures and the log's own (`k2_query.days`); only ids of the log's rows are sent, in portions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.records import TRADES
from k2_query import trino_sql
from k2_query.budget import Budget
from k2_query.days import DayPart, merged, parts_of
from k2_query.engine import Day, SymbolSpan
from k2_query.lake import LakeSnapshot
from k2_query.narrowing import bounds, first_part, sequence_range
from k2_query.ordering import Order
from k2_query.params import to_us
from k2_query.segments import Window
from k2_query.trino_client import TrinoClient
from k2_query.trino_metrics import Purpose
from k2_query.trino_sql import Source

PORTION_BYTES: Final = 256 * 1024
"""Of ids in one question, some 8,000: Trino takes texts of up to 1,000,000 characters (`query.max-length`)."""
PATHS_AT_ONCE: Final = 256
"""Files that one question names; of more new files than that the whole snapshot is asked for."""
_SCHEMA: Final = TRADES.table_schema
_ID_QUOTES_BYTES: Final = 3


class TrinoEngine:
    """See `k2_query.engine.Engine`.

    Args:
        client: Asks Trino.
        catalog: Trino's Iceberg catalog over the pipeline's lake.
        namespace: The table's.
    """

    def __init__(self, client: TrinoClient, catalog: str, namespace: str) -> None:
        self._client = client
        self._catalog = catalog
        self._namespace = namespace
        self._spans: dict[str, list[SymbolSpan]] = {}

    def close(self) -> None:
        """Close the connections; running queries end with their budgets."""
        self._client.close()

    def check(self, lake: LakeSnapshot, budget: Budget) -> None:
        """See `Engine.check`. It takes a worker, which reads a file of the snapshot if there is one."""
        text = trino_sql.any_row(None if lake.id is None else self._source(lake), _SCHEMA.names)
        for _ in self._client.ask(text, [], budget, Purpose.PROBE):
            pass

    def rows(self, lake: LakeSnapshot, window: Window, order: Order, limit: int, budget: Budget) -> pa.Table:
        """See `Engine.rows`. Where the first of many files probably do, they are asked for alone at first."""
        found = _SCHEMA.empty_table()
        if not len(lake.index.prune(window)):
            return found
        text = trino_sql.window_rows(self._source(lake), _SCHEMA.names, order)
        for part in filter(None, (first_part(lake.index, window, order, limit), window)):
            batches = self._client.ask(text, [*bounds(part), limit], budget)
            found = pa.Table.from_batches([_to_arrow(batch) for batch in batches], _SCHEMA)
            if found.num_rows == limit:
                break
        return found

    def known_ids(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> pa.ChunkedArray:
        """See `Engine.known_ids`. The log is usually newer than every file, and then Trino is asked nothing."""
        found: list[pa.Array] = []
        for rows in _portions(log):
            sequence = sequence_range(rows)
            if not len(lake.index.prune(window, sequence)):
                continue
            text = trino_sql.known_ids(self._source(lake), with_sequence=sequence is not None)
            ids = json.dumps(rows.column("message_id").to_pylist(), ensure_ascii=False)
            batches = self._client.ask(text, [*bounds(window), *(sequence or ()), ids], budget)
            found += [pa.array([row[0] for row in batch], pa.string()) for batch in batches]
        return pa.chunked_array(found, pa.string())

    def daily(self, lake: LakeSnapshot, window: Window, log: pa.Table, budget: Budget) -> list[Day]:
        """See `Engine.daily`."""
        return merged([*self._days(lake, window, budget), *parts_of(log)])

    def symbols(self, lake: LakeSnapshot, budget: Budget) -> list[SymbolSpan]:
        """See `Engine.symbols`. What a file holds is asked once."""
        paths = [file.path for file in lake.index.files]
        known = self._spans
        new = [path for path in paths if path not in known]
        if new:
            known = known | self._ask_files(lake, new, budget)
            self._spans = {path: known[path] for path in paths}
        return [span for path in paths for span in known[path]]

    def _ask_files(self, lake: LakeSnapshot, new: list[str], budget: Budget) -> dict[str, list[SymbolSpan]]:
        """Return what new files hold, and perhaps others."""
        named = new if len(new) <= PATHS_AT_ONCE else []
        fresh: dict[str, list[SymbolSpan]] = {path: [] for path in new}
        for batch in self._client.ask(trino_sql.symbols(self._source(lake), len(named)), named, budget):
            for path, symbol, exchange, market, asset_class, first, last in batch:
                span = SymbolSpan(symbol, exchange, market, asset_class, to_us(first), to_us(last))
                fresh.setdefault(path, []).append(span)
        return fresh

    def _days(self, lake: LakeSnapshot, window: Window, budget: Budget) -> Iterator[DayPart]:
        if not len(lake.index.prune(window)):
            return
        for batch in self._client.ask(
            trino_sql.daily(self._source(lake)), [*bounds(window), *trino_sql.OFF_MARKET], budget
        ):
            for *figures, first, last in batch:
                yield DayPart(Day(*figures), tuple(first), tuple(last))

    def _source(self, lake: LakeSnapshot) -> Source:
        if lake.id is None:
            raise ValueError("found files of no snapshot, expected the number of the one that is pinned")
        return Source(self._catalog, self._namespace, TRADES.name, lake.id)


def _to_arrow(rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Return rows as they come from the client, in the table's columns, in Arrow's form."""
    arrays = []
    for field, values in zip(_SCHEMA, zip(*rows, strict=True), strict=True):
        column = [None if value is None else list(value.items()) for value in values] if _is_map(field) else values
        arrays.append(pa.array(column, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _is_map(field: pa.Field) -> bool:
    found: bool = pa.types.is_map(field.type)
    return found


def _portions(log: pa.Table) -> Iterator[pa.Table]:
    """Yield rows in portions whose ids fit into one question, by sequence, so that each is about few files."""
    rows = log.select(["message_id", "sequence"]).sort_by("sequence")
    sizes = pc.binary_length(rows.column("message_id")).to_numpy() + _ID_QUOTES_BYTES
    numbers = np.cumsum(sizes) // PORTION_BYTES
    begins = [*np.flatnonzero(np.diff(numbers, prepend=-1)).tolist(), rows.num_rows]
    for begin, end in pairwise(begins):
        yield rows.slice(begin, end - begin)
