"""What became of everything that a level put off: the commit states of a table, told as changes of its ledger.

Double entry: an entry that a commit puts on the ledger is a row of +1, one that it takes off is a row of -1, and an
entry that it changes is both. So the rows of any number of commits add up to the ledger that is open after the last of
them, in every column. Called by `k2_sink.ledger_history`, which finds the commits. Pure.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, ClassVar, Final

import pyarrow as pa
from pyiceberg.schema import Schema

from k2_core.errors import StateError
from k2_core.records import TEXTS, UTC_MICROSECONDS, iceberg_schema, utc_time
from k2_core.state import CommitState, LedgerEntry, Loss
from k2_core.types import TopicId

TOLD_KEY: Final = "k2.told"
"""The property of the table that says how far it goes."""
TOLD_FORMAT: Final = 1


class Event(StrEnum):
    """What happened to an entry."""

    DEFERRED = "deferred"
    """A level put records off."""
    EXTENDED = "extended"
    """The same level went on, and the entry grew."""
    PAID = "paid"
    """A drain brought records in; of an entry that is paid in part the rest goes on."""
    ADOPTED = "adopted"
    """`k2 adopt` wrote another ledger."""
    LOST = "lost"
    """`k2 adopt-topic` accepted that the log has lost something."""
    ROLLED_BACK = "rolled_back"
    """`k2 rollback` put the ledger of an older snapshot in its place."""
    UNSEEN = "unseen"
    """All that happened in commits which were gone before anybody looked at them: the sum of it, not each step."""


RECOVERIES: Final[Mapping[str, Event]] = {
    "adopt": Event.ADOPTED,
    "adopt-topic": Event.LOST,
    "rollback": Event.ROLLED_BACK,
}
"""What a recovery does to the ledger, by the command in its snapshot's summary."""


class Account(StrEnum):
    """Which list of the commit state a row is of."""

    OWED = "owed"
    """The open ledger."""
    LOST = "lost"
    """The losses that a person accepted."""


_COLUMNS: Final[tuple[tuple[pa.Field, str], ...]] = (
    (
        pa.field("event", pa.string(), nullable=False),
        "deferred, extended, paid, adopted, lost, rolled_back or unseen",
    ),
    (pa.field("account", pa.string()), "owed (the ledger) or lost (accepted losses); null: only says what is unseen"),
    (pa.field("change", pa.int32(), nullable=False), "1: the entry was put on, -1: taken off, 0: no entry"),
    (pa.field("topic", pa.string()), "The topic of the range"),
    (pa.field("topic_id", pa.string()), "The UUID of that topic"),
    (pa.field("kafka_partition", pa.int32()), "The partition of the range"),
    (pa.field("from_offset", pa.int64()), "The first offset of the range"),
    (pa.field("to_offset", pa.int64()), "The offset after its last; null for a loss of which nobody knows the end"),
    (pa.field("symbols", TEXTS), "Whose records are owed; null for a loss"),
    (pa.field("level", pa.int32()), "The level that put them off; null for a loss"),
    (pa.field("reason", pa.string()), "Why, for people"),
    (
        pa.field("owed_records", pa.int64(), nullable=False),
        "How many records this adds to what is owed; negative: takes off it; 0 for a loss",
    ),
    (pa.field("since", UTC_MICROSECONDS), "When putting them off began; null for a loss"),
    (pa.field("oldest", UTC_MICROSECONDS), "When the log took in the oldest of them, or a record before it"),
    (pa.field("raw_file", pa.string()), "The newest raw file that holds some of them; null: the log alone has them"),
    (
        pa.field("from_sequence_number", pa.int64(), nullable=False),
        "The Iceberg sequence number of the commit of trades, or of the first unseen one",
    ),
    (pa.field("sequence_number", pa.int64(), nullable=False), "The Iceberg sequence number of the commit of trades"),
    (pa.field("committed_at", UTC_MICROSECONDS, nullable=False), "When that commit was made"),
)
CHANGES: Final = pa.schema([field for field, _ in _COLUMNS])
"""The Arrow form of a row of the table."""


@dataclass(frozen=True)
class LedgerTable:
    """The table `ledger`: a row for each entry that a commit put on the ledger or took off it."""

    name: ClassVar[str] = "ledger"
    partitioned: ClassVar[bool] = False

    @cached_property
    def iceberg_schema(self) -> Schema:
        """The Iceberg form of a row."""
        return iceberg_schema(CHANGES, {field.name: meaning for field, meaning in _COLUMNS})


LEDGER: Final = LedgerTable()


@dataclass(frozen=True, slots=True)
class Commit:
    """A snapshot of a trades table, as its metadata lists it.

    Args:
        sequence_number: Of Iceberg; each snapshot that was ever made has one more than the one before.
        committed_ms: UTC milliseconds since 1970.
        state: The text in its summary; None where another tool made it, which leaves the state as it was.
        recovery: The command that made it, if a person recovered the table with it.
    """

    sequence_number: int
    committed_ms: int
    state: str | None
    recovery: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """How far a trades table was told.

    Args:
        table: Its UUID; None: nothing was ever told.
        sequence_number: Of the last commit that was; 0: of none.
        state: After that commit: whatever is gone of what follows, the rows go on adding up.
    """

    table: str | None = None
    sequence_number: int = 0
    state: CommitState = field(default_factory=partial(CommitState, ""))

    def dump(self) -> str:
        """Return it as the property's text."""
        document = {"format": TOLD_FORMAT, "table": self.table, "sequence_number": self.sequence_number}
        return json.dumps(document | {"state": self.state.dump()})

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Told:
        """Return how far a table was told, by the properties of the table of changes.

        Raises:
            StateError: The property holds something else.
        """
        text = properties.get(TOLD_KEY)
        if text is None:
            return cls()
        try:
            found = json.loads(text)
            known = {TOLD_FORMAT: (str(found["table"]), int(found["sequence_number"]), str(found["state"]))}
            table, sequence_number, state = known[found["format"]]
            return cls(table, sequence_number, CommitState.parse(state))
        except (ValueError, KeyError, TypeError, StateError) as error:
            raise StateError(
                f"{TOLD_KEY}: found {text[:80]!r}, expected format {TOLD_FORMAT} with table, sequence_number and "
                "state; drop the table ledger to have everything told anew that the snapshots still say"
            ) from error


def tell(told: Told, table: str, commits: Iterable[Commit], most: int) -> tuple[pa.Table, Told, bool]:
    """Return the changes that commits made, how far that goes, and whether there are more.

    A table of another UUID is one that was made again: what the former one owed last is taken off, as unseen.

    Args:
        told: How far the table was told before.
        table: The UUID of the trades table.
        commits: All that are listed, in any order.
        most: Commits to take.

    Returns:
        The rows in the form CHANGES, oldest first. How far that goes is what was given where there is nothing to tell.

    Raises:
        StateError: A commit's state cannot be read.
    """
    another = told.table not in (None, table)
    since = 0 if another else told.sequence_number
    listed = sorted(commits, key=lambda one: one.sequence_number)
    numbers = [one.sequence_number for one in listed]
    ours = [one for one in listed if one.state is not None and one.sequence_number > since]
    rows: list[dict[str, Any]] = []
    for commit in ours[:most]:
        state = CommitState.parse(commit.state or "")
        unseen_from = 1 if another else _first_missing(since, commit.sequence_number, numbers)
        rows += _changes(told.state, state, commit, unseen_from)
        told, since, another = Told(table, commit.sequence_number, state), commit.sequence_number, False
    return pa.Table.from_pylist(rows, CHANGES), told, len(ours) > most


def _first_missing(after: int, before: int, numbers: Sequence[int]) -> int | None:
    """Return the first number between two that is none of these, or None if all are there."""
    listed = numbers[bisect_right(numbers, after) : bisect_left(numbers, before)]
    if len(listed) == before - after - 1:
        return None
    return next(number for number in range(after + 1, before) if number not in listed)


_Held = tuple[LedgerEntry | Loss, TopicId | None]


def _changes(before: CommitState, after: CommitState, commit: Commit, unseen_from: int | None) -> list[dict[str, Any]]:
    when = {
        "from_sequence_number": commit.sequence_number if unseen_from is None else unseen_from,
        "sequence_number": commit.sequence_number,
        "committed_at": utc_time(commit.committed_ms),
    }
    gone, come = Counter(_held(before)), Counter(_held(after))
    gone, come = gone - come, come - gone
    whole = Event.UNSEEN if unseen_from is not None else RECOVERIES.get(commit.recovery or "")
    taken_off, put_on = _events([one for one, _ in gone], [one for one, _ in come])
    rows = [_row(one, whole or taken_off[one[0]], -count) for one, count in gone.items()]
    rows += [_row(one, whole or put_on[one[0]], count) for one, count in come.items()]
    rows.sort(key=lambda row: (row["topic"], row["kafka_partition"], row["from_offset"], row["change"]))
    if unseen_from is not None:
        rows.insert(0, {"event": Event.UNSEEN, "change": 0, "owed_records": 0})
    return [row | when for row in rows]


def _held(state: CommitState) -> Iterator[_Held]:
    for entry in state.open_ledger:
        yield entry, state.topics[entry.topic].id if entry.topic in state.topics else None
    for loss in state.losses:
        yield loss, loss.topic_id


def _events(
    gone: Sequence[LedgerEntry | Loss], come: Sequence[LedgerEntry | Loss]
) -> tuple[dict[LedgerEntry | Loss, Event], dict[LedgerEntry | Loss, Event]]:
    """Say what happened to entries that one commit took off and put on: it is a batch's or a drain's, never both.

    A batch leaves the start of what it extends, a drain the end of what it pays in part.
    """
    starts, ends = {_start(one) for one in gone}, {_end(one) for one in gone}
    grown = {_start(one) for one in come}
    put_on = {
        one: Event.LOST
        if isinstance(one, Loss)
        else Event.EXTENDED
        if _start(one) in starts
        else Event.PAID
        if _end(one) in ends
        else Event.DEFERRED
        for one in come
    }
    taken_off = {
        one: Event.LOST if isinstance(one, Loss) else Event.EXTENDED if _start(one) in grown else Event.PAID
        for one in gone
    }
    return taken_off, put_on


def _start(one: LedgerEntry | Loss) -> tuple[object, ...]:
    return type(one), one.topic, one.partition, one.start


def _end(one: LedgerEntry | Loss) -> tuple[object, ...]:
    return type(one), one.topic, one.partition, one.end


def _row(held: _Held, event: Event, change: int) -> dict[str, Any]:
    one, topic_id = held
    row = {
        "event": event,
        "account": Account.OWED if isinstance(one, LedgerEntry) else Account.LOST,
        "change": change,
        "topic": one.topic,
        "topic_id": topic_id,
        "kafka_partition": one.partition,
        "from_offset": one.start,
        "to_offset": one.end,
        "reason": one.reason,
        "owed_records": 0,
    }
    if isinstance(one, Loss):
        return row
    return row | {
        "symbols": list(one.symbols),
        "level": one.level,
        "owed_records": change * one.records,
        "since": utc_time(one.since_ms),
        "oldest": utc_time(one.oldest_ms),
        "raw_file": one.raw_file,
    }
