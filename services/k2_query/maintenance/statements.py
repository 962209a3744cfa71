"""The statements of maintenance, and which of a table's days are worth one.

Pure; `survey` says what days hold. Names come from the settings and are quoted, everything else is made here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from k2_query.trino_sql import quoted

SMALL_BYTES: Final = 128 * 1024**2
"""A data file below this is put together with others: some 12 M trades, more than a bucket of a day usually holds."""
ORPHAN_AFTER: Final = dt.timedelta(days=1)
"""However little is kept, a younger file may be of a commit that is on its way: its files are there before the table
names them, and without them the table that names them then cannot be read."""
TRINOS_LEAST: Final = dt.timedelta(days=7)
"""Snapshots, and files that nothing names, are kept for as long at least, unless catalog or session say less."""
_LEAST_KEPT: Final = {
    "expire_snapshots_min_retention": dt.timedelta(0),
    "remove_orphan_files_min_retention": ORPHAN_AFTER,
}
"""What a session calls these limits (https://trino.io/docs/476/connector/iceberg.html), and how low each is put."""


def session(catalog: str, keep: dt.timedelta) -> dict[str, str]:
    """Return the session properties with which Trino takes the statements; none where its own limits let them pass.

    Args:
        catalog: As Trino calls it.
        keep: How long snapshots and files that nothing names are kept.
    """
    if keep >= TRINOS_LEAST:
        return {}
    return {f"{catalog}.{name}": _seconds(max(keep, least)) for name, least in _LEAST_KEPT.items()}


class Action(StrEnum):
    """What is done to a table."""

    OPTIMIZE = "optimize"
    """Small files of one day become few large ones."""
    EXPIRE = "expire_snapshots"
    """Old snapshots go, and with them the files that only they name."""
    ORPHANS = "remove_orphan_files"
    """Files below the table's location go that no snapshot names, such as those of a sink that died."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a table's head holds of one day.

    Args:
        day: In UTC, by event time; None for a table without days.
        files: Data files.
        nbytes: Of these files.
        spare: How many files fewer there would be if the small ones of each partition were one.
        newest: The greatest sequence number of a sink's commits that it has files of; 0 where all were rewritten.
    """

    day: dt.date | None
    files: int
    nbytes: int
    spare: int
    newest: int


@dataclass(frozen=True, slots=True)
class Task:
    """One statement.

    Args:
        table: The table's name in its namespace.
        action: What it does.
        text: What Trino is told.
        day: Of OPTIMIZE, where the table has days.
    """

    table: str
    action: Action
    text: str
    day: dt.date | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A table as Trino knows it.

    Args:
        catalog: As Trino calls it.
        schema: The table's namespace.
        table: Its name.
    """

    catalog: str
    schema: str
    table: str

    def tasks(self, parts: Sequence[Part], today: dt.date, checked: int | None, keep: dt.timedelta) -> list[Task]:
        """Return what is to be done, in this order.

        Args:
            parts: What the head holds.
            today: The day in UTC, which sinks write to.
            checked: What enrichment has looked at, as a sequence number; None where it need not have.
            keep: How long snapshots and files that nothing names are kept.
        """
        days = [part.day for part in parts if is_due(part, today) and is_checked(part, checked)]
        return [*(self._optimize(day) for day in sorted(days, key=str)), *self._removals(keep)]

    def _optimize(self, day: dt.date | None) -> Task:
        # Of whole days alone Trino knows that no file has rows of another, which it would have to leave where they are.
        where = "" if day is None else f" WHERE CAST(event_time AS DATE) = DATE '{day.isoformat()}'"
        call = f"optimize(file_size_threshold => '{SMALL_BYTES}B'){where}"
        return Task(self.table, Action.OPTIMIZE, self._altered(call), day)

    def _removals(self, keep: dt.timedelta) -> Iterable[Task]:
        for action, kept in ((Action.EXPIRE, keep), (Action.ORPHANS, max(keep, ORPHAN_AFTER))):
            call = f"{action}(retention_threshold => '{_seconds(kept)}')"
            yield Task(self.table, action, self._altered(call))

    def _altered(self, call: str) -> str:
        name = ".".join(quoted(part) for part in (self.catalog, self.schema, self.table))
        return f"ALTER TABLE {name} EXECUTE {call}"


def is_due(part: Part, today: dt.date) -> bool:
    """Return whether rewriting a day makes fewer files of it. Today's goes on growing: it is tomorrow's work."""
    return part.spare > 0 and (part.day is None or part.day < today)


def is_checked(part: Part, checked: int | None) -> bool:
    """Return whether enrichment has looked at all of a day: afterwards it could not tell what it has not."""
    return checked is None or part.newest <= checked


def _seconds(kept: dt.timedelta) -> str:
    return f"{round(kept.total_seconds())}s"
