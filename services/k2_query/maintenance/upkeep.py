"""Carries maintenance out: one statement after the other, each with what it found and what it left.

Sinks go on meanwhile. Who commits first wins, and the other tries again: Trino here, a sink by its protocol, which
goes by the table's property and not by whose snapshot the head is. Called by `k2_query.maintenance.__main__` and
`k2 maintain`.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_core.errors import K2Error, RetryableError
from k2_core.ledger_history import LEDGER
from k2_core.letters import DLQ
from k2_core.quality import QUALITY, Checked
from k2_core.records import TRADES, TableForm
from k2_core.tables import load_table
from k2_query.budget import Budget
from k2_query.maintenance.statements import Action, Part, Target, Task, is_checked, is_due
from k2_query.maintenance.survey import Figures, of_day, stored, survey
from k2_query.trino_client import TrinoClient

TABLES: Final[tuple[TableForm, ...]] = (TRADES, QUALITY, LEDGER, DLQ)
ATTEMPTS: Final = 5
"""Of one statement. A commit of a sink comes between the moments of another one's rarely: it takes milliseconds."""
STATEMENT_TIMEOUT_S: Final = 4 * 3600.0
"""A day of 10^9 trades is some 10 GB to read and to write again."""
_PAUSE_S: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task.

    Args:
        task: What was asked for.
        before: What there was.
        after: What is left; None where nothing was done.
        seconds: How long it took, all attempts together.
        attempts: How often Trino was asked; 0 where nothing was done.
        error: Why it was not done.
    """

    task: Task
    before: Figures
    after: Figures | None = None
    seconds: float = 0.0
    attempts: int = 0
    error: K2Error | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for logs and `--json`."""
        figures = {
            f"{what}_{when}": None if found is None else getattr(found, field)
            for when, found in (("before", self.before), ("after", self.after))
            for what, field in (("files", "files"), ("bytes", "nbytes"), ("snapshots", "snapshots"))
        }
        return {
            "table": self.task.table,
            "action": self.task.action.value,
            "day": None if self.task.day is None else self.task.day.isoformat(),
            **figures,
            "seconds": round(self.seconds, 1),
            "attempts": self.attempts,
            "error": None if self.error is None else str(self.error),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a pipeline's tables.

    Args:
        tasks: In this order.
        waiting: Days that enrichment has not looked at altogether, by table.
    """

    tasks: tuple[Task, ...]
    waiting: tuple[tuple[str, Part], ...] = ()


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The maintenance of one pipeline.

    Args:
        catalog: The pipeline's, for what its tables hold.
        client: Asks Trino.
        trino_catalog: As Trino calls the same catalog.
        namespace: Of the tables.
        keep: How long snapshots and files that nothing names are kept.
        sleep: Waits so many seconds.
        utc_now: The time of day.
    """

    catalog: Catalog
    client: TrinoClient
    trino_catalog: str
    namespace: str
    keep: dt.timedelta
    sleep: Callable[[float], None] = time.sleep
    utc_now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)

    def plan(self) -> Plan:
        """Return what is to be done, by what the tables hold now.

        Raises:
            RetryableError: Catalog or warehouse is away.
            StateError: The table of findings does not say how far enrichment has looked.
        """
        today = self.utc_now().date()
        tasks: list[Task] = []
        waiting: list[tuple[str, Part]] = []
        for form in TABLES:
            table = load_table(self.catalog, self.namespace, form)
            if table is None:
                continue
            parts = survey(table)
            checked = self._checked(table) if form is TRADES else None
            tasks += Target(self.trino_catalog, self.namespace, form.name).tasks(parts, today, checked, self.keep)
            waiting += [(form.name, part) for part in parts if is_due(part, today) and not is_checked(part, checked)]
        return Plan(tuple(tasks), tuple(waiting))

    def preview(self, plan: Plan) -> Iterator[Outcome]:
        """Yield what there is, and do nothing."""
        for task in plan.tasks:
            yield Outcome(task, self._figures(task))

    def carry_out(self, plan: Plan) -> Iterator[Outcome]:
        """Yield the outcome of each task once it is done.

        A failure keeps no other table and no other kind of task from being done, but further days of the same table:
        what fails for one would mostly fail for all, and each may take long.

        Raises:
            RetryableError: Catalog or warehouse is away.
        """
        failed: set[tuple[str, Action]] = set()
        for task in plan.tasks:
            if (task.table, task.action) in failed:
                continue
            outcome = self._done(task)
            if outcome.error is not None:
                failed.add((task.table, task.action))
            yield outcome

    def _done(self, task: Task) -> Outcome:
        before, began = self._figures(task), time.monotonic()
        attempts, error = self._ask(task)
        after = self._figures(task) if error is None else None
        return Outcome(task, before, after, time.monotonic() - began, attempts, error)

    def _ask(self, task: Task) -> tuple[int, K2Error | None]:
        """Have Trino do it; return how often that was tried, and what was wrong in the end."""
        attempt = 0
        while True:
            attempt += 1
            try:
                for _ in self.client.ask(task.text, [], Budget(STATEMENT_TIMEOUT_S)):
                    pass
            except RetryableError as error:  # policy: another commit, or Trino is away for a moment; a limit to both
                if attempt == ATTEMPTS:
                    return attempt, error
                _log.warning("will be tried again", extra={"statement": task.text, "error": str(error)})
                self.sleep(_PAUSE_S * attempt)
            except K2Error as error:  # policy: told with the outcome; the rest is done first
                return attempt, error
            else:
                return attempt, None

    def _figures(self, task: Task) -> Figures:
        form = next(form for form in TABLES if form.name == task.table)
        table = load_table(self.catalog, self.namespace, form)
        if table is None:  # dropped meanwhile: Trino will say so
            return Figures(0, 0, 0)
        return of_day(table, task.day) if task.action is Action.OPTIMIZE else stored(table)

    def _checked(self, trades: Table) -> int:
        quality = load_table(self.catalog, self.namespace, QUALITY)
        if quality is None:
            return 0
        return Checked.of(quality.properties, str(trades.metadata.table_uuid)).sequence_number
