"""Which records wait at a level, by their keys alone: what is deferred is not decoded.

The key of a record is its symbol, as the ingest writes it. Called by the sink's batch for thousands of keys at a time;
whether a level defers a class is said by `k2_core.policy.classes`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from k2_core.intervals import Bools, Int64s
from k2_core.policy.classes import Priority, is_deferred
from k2_core.state import LedgerEntry
from k2_core.types import Level, Offset, Symbol
from k2_sink.protocol import LogPartition

RAW_FROM: Final = Level.AGGRESSIVE
"""From here on most of the log waits, for as long as it takes: too much to leave to the log's retention alone."""
MAX_KEY_BYTES: Final = 64
MAX_KEYS: Final = 4_096
"""Keys are written down in the state of every snapshot: what a producer puts there must not make it grow for ever."""


def defers_by_key(level: Level) -> bool:
    """Return whether a level defers some records and takes others in, so that keys have to be looked at."""
    return is_deferred(level, Priority.LOW) and not is_deferred(level, Priority.CRITICAL)


class KeyClasses(dict[bytes | None, int]):
    """Each key's number, and each number's symbol and class.

    Number 0 stands for what is never deferred, as the ledger could not name it: no key, no text, or too much of it. A
    key that no pipeline names is of class NORMAL. What a key is stays the same for the life of the process.

    Args:
        priorities: The class of each symbol that the pipeline names.
    """

    def __init__(self, priorities: Mapping[Symbol, Priority]) -> None:
        super().__init__()
        self._priorities = priorities
        self.symbols: list[str] = [""]
        self._classes: list[Priority] = [Priority.CRITICAL]

    def __missing__(self, key: bytes | None) -> int:
        if not key or len(key) > MAX_KEY_BYTES or len(self) >= MAX_KEYS:
            return 0
        try:
            symbol = key.decode()
        except UnicodeDecodeError:
            return 0
        self.symbols.append(symbol)
        self._classes.append(self.of(symbol))
        number = self[key] = len(self.symbols) - 1
        return number

    def of(self, symbol: str) -> Priority:
        """Return a symbol's class."""
        return self._priorities.get(Symbol(symbol), Priority.NORMAL)

    def numbers(self, keys: Sequence[bytes | None]) -> Int64s:
        """Return the number of each key."""
        return np.fromiter(map(self.__getitem__, keys), dtype=np.int64, count=len(keys))

    def deferred(self, level: Level) -> Bools:
        """Return for each number whether a level defers it."""
        return np.array([is_deferred(level, one) for one in self._classes], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Deferring:
    """A level at work on records.

    Args:
        level: One that defers by key.
        classes: Of keys.
        now_ms: UTC milliseconds since 1970.
        raw_files: Whether the log keeps records for too short a time to leave them to it alone.
    """

    level: Level
    classes: KeyClasses
    now_ms: int
    raw_files: bool = True

    @property
    def raw(self) -> bool:
        """Whether records that wait are kept as they are, in a raw file."""
        return self.raw_files and self.level >= RAW_FROM

    @property
    def reason(self) -> str:
        """Why records wait, for people."""
        waiting = [one.name.lower() for one in Priority if is_deferred(self.level, one)]
        return f"level {self.level:d} defers {' and '.join(waiting)}"

    def split(self, keys: Sequence[bytes | None]) -> tuple[Int64s, Bools]:
        """Return the number of each key, and whether its record waits."""
        numbers = self.classes.numbers(keys)
        return numbers, self.classes.deferred(self.level)[numbers]

    def follows(self, entry: LedgerEntry) -> bool:
        """Return whether everything that an entry names waits at this level, too."""
        return entry.level == self.level and all(is_deferred(self.level, self.classes.of(one)) for one in entry.symbols)


@dataclass(slots=True)
class Stretch:
    """A part of one partition that was read at one level.

    Args:
        start: Its first offset.
        end: The one after its last.
        deferring: The level.
        oldest_ms: When the log took in its first record.
        before: Symbols of the entry that it follows on from, where these wait as well: to name them keeps both one.
        symbols: Of the records that wait.
        records: How many wait.
    """

    start: Offset
    end: Offset
    deferring: Deferring
    oldest_ms: int
    before: frozenset[str] = frozenset()
    symbols: set[str] = field(default_factory=set)
    records: int = 0

    def add(self, end: Offset, symbols: Iterable[str], records: int) -> None:
        """Lengthen it by what was read up to `end`."""
        self.end = end
        self.symbols.update(symbols)
        self.records += records

    def entry(self, at: LogPartition, raw_file: str | None = None) -> LedgerEntry:
        """Return what it adds to the ledger; `raw_file` is the batch's."""
        named = self.symbols.issubset(self.before)
        symbols = self.before if named else self.symbols
        return LedgerEntry(
            *at,
            start=self.start,
            end=self.end,
            symbols=tuple(sorted(symbols)),
            level=int(self.deferring.level),
            reason=self.deferring.reason,
            records=self.records,
            since_ms=self.deferring.now_ms,
            oldest_ms=self.oldest_ms,
            raw_file=raw_file if self.records and self.deferring.raw else None,
        )
