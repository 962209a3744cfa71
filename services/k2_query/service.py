"""The questions of the API, answered with plain values: table and log together, and what is missing said.

Called by `k2_query.app` in worker threads. It knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, Final

import pyarrow as pa
from pyiceberg.table.snapshots import Snapshot

from k2_core.clock import utc_now
from k2_core.errors import StateError
from k2_core.records import TRADES
from k2_core.reference import Listing, References, Steps
from k2_core.state import STATE_KEY, CommitState
from k2_core.types import Level, Symbol
from k2_query import boundary
from k2_query.boundary import Missing
from k2_query.budget import Budget
from k2_query.degraded import level_warnings
from k2_query.encode import iso_us, to_rows
from k2_query.engine import Day, Engine, SymbolSpan
from k2_query.hybrid import HybridReader, Reading
from k2_query.lake import Lake, LakeSnapshot
from k2_query.metrics import QueryMetrics
from k2_query.ordering import Order, top
from k2_query.params import RecentQuery, SummaryQuery, TradesQuery
from k2_query.segments import TailStore, Window

_PLACES: Final = Decimal("1E-8")
_ANY: Final = Window(None, 0, 2**62)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route sends: plain values and what `meta` says of them.

    Args:
        data: Rows, or one object.
        lake: The snapshot that was read, or None where no one was pinned.
        rows: Rows of `data` by source.
        missing: What belongs to the answer and is not in it.
        warnings: For people.
    """

    data: Any
    lake: LakeSnapshot | None
    rows: dict[str, int]
    missing: tuple[Missing, ...] = ()
    warnings: tuple[str, ...] = ()

    def meta(self) -> dict[str, Any]:
        """Return `meta` but for what only the request knows."""
        return {
            "snapshot_id": None if self.lake is None or self.lake.id is None else str(self.lake.id),
            "rows": {"lake": 0, "tail": 0, "ledger": 0} | self.rows,
            "complete": not self.missing,
            "incomplete_ranges": [_range(missing) for missing in self.missing],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class QueryService:
    """Answers questions.

    Args:
        engine: Reads the snapshot.
        hybrid: Reads the log's part.
        lake: The snapshots.
        store: The tail, for figures.
        metrics: Where the stages' times go.
        commit_lag: Uncommitted records older than this make a warning.
        now: UTC.
        level: The level of degradation.
        known: What the pipeline says of its symbols.
    """

    engine: Engine
    hybrid: HybridReader
    lake: Lake
    store: TailStore
    metrics: QueryMetrics
    commit_lag: timedelta
    now: Callable[[], datetime] = utc_now
    level: Callable[[], Level] = lambda: Level.NORMAL
    known: References = field(default_factory=dict)

    def trades(self, query: TradesQuery, budget: Budget) -> Answer:
        """Answer `/v1/trades`."""
        if query.snapshot_id is not None or query.as_of is not None or query.source == "lake":
            return self._lake_trades(query, budget)
        return self._hybrid_trades(query.window, query.order, query.limit, budget, with_lake=query.source == "hybrid")

    def recent(self, query: RecentQuery, budget: Budget) -> Answer:
        """Answer `/v1/trades/recent`."""
        return self._hybrid_trades(query.window_at(self.now()), Order.DESC, query.limit, budget, with_lake=True)

    def summary(self, symbol: str, query: SummaryQuery, budget: Budget) -> Answer:
        """Answer `/v1/summary/{symbol}`; `rows` counts days."""
        window = query.window(symbol)
        reading = self._read(window, budget)
        log, _ = self._fresh(reading, window, budget)
        days = self.engine.daily(reading.lake, window, log, budget)
        warnings = (*reading.warnings, *self._held_back(reading), *_nothing(days, symbol))
        return Answer([_day(day, symbol) for day in days], reading.lake, {}, reading.missing, warnings)

    def symbols(self, budget: Budget) -> Answer:
        """Answer `/v1/symbols`."""
        reading = self._read(_ANY, budget)
        spans = [*self.engine.symbols(reading.lake, budget), *_spans(reading.tail), *_spans(reading.ledger)]
        return Answer(_merged(spans, self.known), reading.lake, {}, reading.missing, reading.warnings)

    def snapshots(self, limit: int, budget: Budget) -> Answer:
        """Answer `/v1/snapshots`, newest first."""
        head = self.lake.head(budget.remaining_s)
        if head.table is None:
            return Answer([], head.snapshot, {}, (), ("the table does not exist yet",))
        newest_first = sorted(head.table.snapshots(), key=lambda one: one.sequence_number or 0, reverse=True)
        return Answer([_snapshot(one) for one in newest_first[:limit]], head.snapshot, {})

    def tables(self) -> Answer:
        """Answer `/v1/tables`."""
        found = []
        for name, table, index in self.lake.tables():
            snapshot = table.current_snapshot()
            found.append(
                {
                    "table": name,
                    "rows": int(index.rows.sum()),
                    "files": len(index.files),
                    "bytes": index.nbytes,
                    "partitions": index.partitions,
                    "snapshots": len(table.metadata.snapshots),
                    "snapshot_id": str(snapshot.snapshot_id) if snapshot else None,
                    "committed_at": iso_us(snapshot.timestamp_ms * 1000) if snapshot else None,
                }
            )
        return Answer(found, None, {})

    def _lake_trades(self, query: TradesQuery, budget: Budget) -> Answer:
        head = self.lake.head(budget.remaining_s)
        if query.snapshot_id is not None:
            lake = self.lake.at(query.snapshot_id, head)
        elif query.as_of is not None:
            lake = self.lake.as_of(query.as_of, head)
        else:
            lake = head.snapshot
        rows = self.engine.rows(lake, query.window, query.order, query.limit, budget)
        warnings = (*self._catalog_warning(), *_nothing(rows, query.symbol))
        return Answer(to_rows(rows), lake, {"lake": rows.num_rows}, _owed(lake), warnings)

    def _hybrid_trades(self, window: Window, order: Order, limit: int, budget: Budget, *, with_lake: bool) -> Answer:
        reading = self._read(window, budget)
        log, ledger_ids = self._fresh(reading, window, budget)
        lake_rows = TRADES.table_schema.empty_table()
        if with_lake:
            with self.metrics.stages.labels("lake").time():
                lake_rows = self.engine.rows(reading.lake, window, order, limit, budget)
        with self.metrics.stages.labels("encode").time():
            rows, sources = _merge(lake_rows, log, ledger_ids, order, limit)
            data = to_rows(rows)
        warnings = (*reading.warnings, *self._held_back(reading), *_nothing(data, window.symbol))
        return Answer(data, reading.lake, sources, reading.missing, warnings)

    def _read(self, window: Window, budget: Budget) -> Reading:
        with self.metrics.stages.labels("log").time():
            reading = self.hybrid.read(window, budget)
        if reading.missing:
            self.metrics.incomplete.inc()
        return reading

    def _fresh(self, reading: Reading, window: Window, budget: Budget) -> tuple[pa.Table, pa.ChunkedArray]:
        """Return the log's rows that the lake has not, and the ids of those that come from the ledger."""
        log = pa.concat_tables([reading.ledger, reading.tail])
        if not log.num_rows:
            return log, log.column("message_id")
        with self.metrics.stages.labels("dedup").time():
            known = self.engine.known_ids(reading.lake, window, log, budget)
        return boundary.without(log, known), reading.ledger.column("message_id")

    def _held_back(self, reading: Reading) -> Iterable[str]:
        yield from level_warnings(self.level(), reading.lake.state)
        yield from self._lag(reading)

    def _lag(self, reading: Reading) -> Iterable[str]:
        committed_at = reading.lake.committed_at
        if committed_at is None or not self.store.rows:
            return
        age = self.now() - committed_at
        if age > self.commit_lag:
            yield f"the newest commit is {age.total_seconds():.0f} s old, expected at most {self.commit_lag}"

    def _catalog_warning(self) -> Iterable[str]:
        if self.lake.problem is not None:
            yield f"the catalog does not answer; the last snapshot seen was used ({self.lake.problem})"


def _merge(
    lake: pa.Table, log: pa.Table, ledger_ids: pa.ChunkedArray, order: Order, limit: int
) -> tuple[pa.Table, dict[str, int]]:
    """Return the first rows of both, and how many of them come from where."""
    if not log.num_rows:
        return lake, {"lake": lake.num_rows}
    rows = top(pa.concat_tables([lake, log]), order, limit)
    from_log = boundary.count_known(rows, log.column("message_id"))
    from_ledger = boundary.count_known(rows, ledger_ids)
    return rows, {"lake": rows.num_rows - from_log, "tail": from_log - from_ledger, "ledger": from_ledger}


def _nothing(found: Any, symbol: str | None) -> Iterable[str]:
    if not len(found):
        yield f"no trades of {symbol} in this window; GET /v1/symbols lists what there is"


def _owed(lake: LakeSnapshot) -> tuple[Missing, ...]:
    entries = lake.state.open_ledger if lake.state else ()
    return tuple(
        Missing(boundary.LogPartition(entry.topic, entry.partition), entry.start, entry.end, boundary.DEFERRED)
        for entry in entries
    )


def _range(missing: Missing) -> dict[str, Any]:
    whole = missing.at.partition < 0
    return {
        "topic": missing.at.topic,
        "partition": None if whole else missing.at.partition,
        "start": missing.start,
        "end": missing.end,
        "reason": missing.reason,
    }


def _day(day: Day, symbol: str) -> dict[str, Any]:
    with localcontext(prec=60):
        vwap = (day.notional / day.volume).quantize(_PLACES, rounding=ROUND_HALF_EVEN)
    numbers = {
        "open": day.open,
        "high": day.high,
        "low": day.low,
        "close": day.close,
        "volume": day.volume,
        "notional": day.notional,
        "vwap": vwap,
    }
    texts = {name: f"{value:f}" for name, value in numbers.items()}
    return {"symbol": symbol, "day": day.day.isoformat(), **texts, "trades": day.trades}


def _spans(rows: pa.Table) -> list[SymbolSpan]:
    keys = ["symbol", "exchange", "market", "asset_class"]
    times = rows.select(keys).append_column("at", rows.column("event_time").cast(pa.int64()))
    found = times.group_by(keys).aggregate([("at", "min"), ("at", "max")])
    return [
        SymbolSpan(**{key: row[key] for key in keys}, first_us=row["at_min"], last_us=row["at_max"])
        for row in found.to_pylist()
    ]


def _merged(spans: list[SymbolSpan], known: References) -> list[dict[str, Any]]:
    merged: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for span in spans:
        key = (span.symbol, span.exchange, span.market, span.asset_class)
        first, last = merged.get(key, (span.first_us, span.last_us))
        merged[key] = (min(first, span.first_us), max(last, span.last_us))
    return [
        {
            "symbol": symbol,
            "exchange": exchange,
            "market": market,
            "asset_class": asset_class,
            "first_event_time": iso_us(first),
            "last_event_time": iso_us(last),
            **_steps(known.get(Listing(exchange, market, Symbol(symbol)), Steps())),
        }
        for (symbol, exchange, market, asset_class), (first, last) in sorted(merged.items())
    ]


def _steps(steps: Steps) -> dict[str, str | None]:
    sizes = {"tick_size": steps.tick_size, "step_size": steps.step_size}
    return {name: None if size is None else f"{size:f}" for name, size in sizes.items()}


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    return {
        "snapshot_id": str(snapshot.snapshot_id),
        "parent_id": None if snapshot.parent_snapshot_id is None else str(snapshot.parent_snapshot_id),
        "committed_at": iso_us(snapshot.timestamp_ms * 1000),
        "operation": snapshot.summary.operation.value if snapshot.summary else None,
        "rows_added": int(summary.get("added-records", 0)),
        "rows_total": int(summary.get("total-records", 0)),
        "batch_id": _batch_id(summary.get(STATE_KEY)),
    }


def _batch_id(text: str | None) -> str | None:
    try:
        return CommitState.parse(text).batch_id if text else None
    except StateError:
        return None
