"""What a table holds and what it lacks, as a proof: all ids of all symbols and days, all positions of all partitions.

Pure: rows come as Arrow tables, file by file; ids and positions are kept as intervals, so memory grows with gaps and
not with rows. Called by `k2 audit` and by tests. Two questions are answered, by two independent columns:

* By trade id: per venue, market, symbol and day, is every id between the first and the last there exactly once?
* By log position: per partition, do the rows in the table make up, with what the commit state accounts for, exactly the
  part of the log that the state says was taken in? (next - origin = rows + duplicates + dead letters + markers + lost
  + unexplained + aged + deferred)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2_core.intervals import IntervalSet
from k2_core.state import CommitState, LedgerEntry, PartitionState, owed_records
from k2_core.types import Partition, TopicId, TopicName

COLUMNS: Final = (
    "exchange",
    "market",
    "symbol",
    "sequence",
    "event_time",
    "topic_id",
    "kafka_partition",
    "kafka_offset",
)
"""What is read of the table."""

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

IdSpace = tuple[str, str, str]
"""Where one count of ids runs: exchange, market, symbol."""
Position = tuple[str, int]
"""Topic id and partition."""


@dataclass(slots=True)
class Held:
    """Rows, and the distinct numbers (ids or offsets) that they carry."""

    rows: int = 0
    numbers: IntervalSet = field(default_factory=IntervalSet)

    def add(self, values: pa.Array) -> None:
        """Take rows in."""
        self.rows += len(values)
        self.numbers = self.numbers.union(IntervalSet.of_values(values.to_numpy(zero_copy_only=False)))

    @property
    def repeated(self) -> int:
        """Rows beyond one for each number."""
        return self.rows - len(self.numbers)


@dataclass(slots=True)
class Holdings:
    """Everything a table holds, added up file by file.

    Args:
        days: By id space and day (since 1970).
        positions: By topic id and partition.
        unnumbered: Rows whose venue does not count without gaps; only positions can prove them.
        rows: All rows.
    """

    days: dict[tuple[IdSpace, int], Held] = field(default_factory=dict)
    positions: dict[Position, Held] = field(default_factory=dict)
    unnumbered: int = 0
    rows: int = 0

    def add(self, rows: pa.Table) -> None:
        """Take the rows of a file in; the columns are `COLUMNS`."""
        self.rows += rows.num_rows
        for at, offsets in positions_of(rows):
            self.positions.setdefault(at, Held()).add(offsets)
        numbered = rows.filter(pc.is_valid(rows.column("sequence")))
        self.unnumbered += rows.num_rows - numbered.num_rows
        days = pa.array(numbered.column("event_time").cast(pa.int64()).to_numpy() // _DAY_US)
        numbered = numbered.append_column("day", days)
        for key, ids in _grouped(numbered, ("exchange", "market", "symbol", "day"), "sequence"):
            space = (str(key[0]), str(key[1]), str(key[2]))
            self.days.setdefault((space, int(str(key[3]))), Held()).add(ids)


def positions_of(rows: pa.Table) -> Iterable[tuple[Position, pa.Array]]:
    """Yield the offsets of rows by topic id and partition."""
    for key, offsets in _grouped(rows, ("topic_id", "kafka_partition"), "kafka_offset"):
        yield (str(key[0]), int(str(key[1]))), offsets


def _grouped(rows: pa.Table, keys: tuple[str, ...], values: str) -> Iterable[tuple[tuple[object, ...], pa.Array]]:
    """Yield each combination of keys with its values."""
    if not rows.num_rows:
        return
    grouped = rows.select([*keys, values]).group_by(list(keys)).aggregate([(values, "list")])
    lists = grouped.column(f"{values}_list").combine_chunks()
    columns = [grouped.column(name).to_pylist() for name in keys]
    for index, key in enumerate(zip(*columns, strict=True)):
        yield key, lists[index].values


@dataclass(frozen=True, slots=True)
class SymbolDay:
    """One symbol's ids on one day (UTC, by event time).

    Args:
        exchange: The venue, with `market` and `symbol`.
        market: See `exchange`.
        symbol: See `exchange`.
        day: Of the rows; a missing id counts on the day of the first id after it.
        first: The smallest id of the day.
        last: The largest.
        stored: Distinct ids, each counted on the first day that has it.
        missing: Inclusive ranges of ids that the symbol lacks.
        duplicates: Rows beyond one for each id, those of an earlier day included.
    """

    exchange: str
    market: str
    symbol: str
    day: date
    first: int
    last: int
    stored: int
    missing: tuple[tuple[int, int], ...]
    duplicates: int

    @property
    def missing_count(self) -> int:
        """Ids that the symbol lacks."""
        return sum(last - first + 1 for first, last in self.missing)

    @property
    def expected(self) -> int:
        """Ids that there must be."""
        return self.stored + self.missing_count


def symbol_days(holdings: Holdings) -> list[SymbolDay]:
    """Return every symbol's days, in order."""
    spaces: dict[IdSpace, dict[int, Held]] = {}
    for (space, day), held in sorted(holdings.days.items(), key=lambda item: item[0]):
        spaces.setdefault(space, {})[day] = held
    return [day for space, days in spaces.items() for day in _days_of(space, days)]


def _days_of(space: IdSpace, days: Mapping[int, Held]) -> list[SymbolDay]:
    union = IntervalSet()
    fresh: dict[int, int] = {}
    for day, held in days.items():
        before, union = len(union), union.union(held.numbers)
        fresh[day] = len(union) - before
    missing = _by_day(union, days)
    return [
        SymbolDay(
            *space,
            day=(_EPOCH + timedelta(days=day)).date(),
            first=held.numbers.first or 0,
            last=held.numbers.last or 0,
            stored=fresh[day],
            missing=tuple(missing.get(day, ())),
            duplicates=held.rows - fresh[day],
        )
        for day, held in days.items()
    ]


def _by_day(union: IntervalSet, days: Mapping[int, Held]) -> dict[int, list[tuple[int, int]]]:
    """Return the gaps of a symbol by the day that holds the first id after each."""
    gaps = union.gaps()
    ends = np.array([end for _, end in gaps], dtype=np.int64)
    missing: dict[int, list[tuple[int, int]]] = {}
    open_gaps = np.ones(ends.shape, dtype=np.bool_)
    for day, held in days.items():
        here = open_gaps & held.numbers.contains(ends)
        missing[day] = [(gaps[index][0], gaps[index][1] - 1) for index in np.flatnonzero(here)]
        open_gaps &= ~here
    return missing


@dataclass(frozen=True, slots=True)
class PartitionAccount:
    """One partition's books: what the commit state says against what the table holds.

    Args:
        topic: With `topic_id` and `partition` where.
        topic_id: Of the topic, or of one that had its name before.
        partition: See `topic`.
        state: What the commit state says.
        rows: Rows in the table.
        deferred: Records that open ledger ranges still owe.
        repeated: Rows beyond one for each position: a position committed twice.
        outside: Positions that the state does not account for.
    """

    topic: TopicName
    topic_id: TopicId
    partition: Partition
    state: PartitionState
    rows: int
    deferred: int
    repeated: int
    outside: int

    @property
    def balanced(self) -> bool:
        """Whether next - origin is the sum of rows and of all that became none, and each position is held once."""
        return self.state.rows(self.deferred) == self.rows and not self.repeated and not self.outside


@dataclass(frozen=True, slots=True)
class Books:
    """All partitions' accounts, and rows of topics that the commit state does not know."""

    accounts: tuple[PartitionAccount, ...]
    foreign_rows: int

    @property
    def balanced(self) -> bool:
        """Whether every account is balanced and nothing is beside them."""
        return not self.foreign_rows and all(account.balanced for account in self.accounts)


def books(holdings: Holdings, state: CommitState | None) -> Books:
    """Return the books of a table at one snapshot.

    Args:
        holdings: What the snapshot holds.
        state: Its commit state; None for a table that nothing was ever committed to.
    """
    if state is None:
        return Books((), sum(held.rows for held in holdings.positions.values()))
    accounts: list[PartitionAccount] = []
    for name, topic in sorted(state.topics.items()):
        for topic_id, partitions in [*sorted(topic.former.items()), (topic.id, topic.partitions)]:
            for partition, stands in sorted(partitions.items()):
                held = holdings.positions.get((topic_id, partition), Held())
                ledger = state.deferred(name, partition) if topic_id == topic.id else ()
                accounts.append(_account((name, topic_id, partition), stands, held, ledger))
    known = {(account.topic_id, account.partition) for account in accounts}
    foreign = sum(held.rows for at, held in holdings.positions.items() if at not in known)
    return Books(tuple(accounts), foreign)


def _account(
    at: tuple[TopicName, TopicId, Partition], stands: PartitionState, held: Held, ledger: Iterable[LedgerEntry]
) -> PartitionAccount:
    inside = IntervalSet.of_ranges([(stands.origin, stands.next)])
    outside = len(held.numbers.minus(inside))
    return PartitionAccount(*at, stands, held.rows, owed_records(ledger), held.repeated, outside)
