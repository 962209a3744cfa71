"""What a sink does when nothing is more urgent: removes litter, and keeps the tables that are derived from others.

Nothing here keeps rows from being committed or paid back, so no fault of it does. Called by the sink's loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from k2_core.errors import RetryableError, SetupError, StateError
from k2_core.raw_files import RawFiles
from k2_core.reference import references
from k2_core.types import Level
from k2_sink.aging import Aging
from k2_sink.checking import Checking, Expected
from k2_sink.clearing import Clearing
from k2_sink.ledger_history import LedgerHistory
from k2_sink.letters import Asked, Letters
from k2_sink.parts import Parts
from k2_sink.projection import Tables, Turns
from k2_sink.raw_sweep import RawSweep

_log = logging.getLogger(__name__)


class Step(Protocol):
    """Something that is done in spare time."""

    def step(self, level: Level) -> object:
        """Do what is due at this level."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The sink's spare-time work.

    Args:
        sweep: Of raw files.
        checking: Of rows.
        history: Of the ledger.
        letters: Of the dead-letter topics.
        aging: Of rows, where they are not kept for ever.
        clearing: Of their files, where nobody else does it.
    """

    sweep: RawSweep
    checking: Checking
    history: LedgerHistory
    letters: Letters
    aging: Aging | None = None
    clearing: Clearing | None = None

    def step(self, level: Level) -> None:
        """Do what is due at this level; what fails is due again at its next time."""
        parts: tuple[tuple[str, Step | None], ...] = (
            ("raw files", self.sweep),
            ("checks", self.checking),
            ("ledger", self.history),
            ("letters", self.letters),
            ("old rows", self.aging),
            ("files of old rows", self.clearing),
        )
        for what, part in parts:
            try:
                if part is not None:
                    part.step(level)
            except (
                RetryableError,
                SetupError,
                StateError,
            ) as error:  # policy: what is committed stands, whatever becomes of this
                _log.error("%s: will be tried again", what, extra={"error": str(error)})

    def close(self) -> None:
        """Let go of Kafka and of what was read ahead."""
        self.letters.close()


def open_upkeep(parts: Parts, files: RawFiles, clock: Callable[[], float], utc_s: Callable[[], float]) -> Upkeep:
    """Return the upkeep of a sink.

    Args:
        parts: Of the sink.
        files: The raw files of its table.
        clock: Monotonic seconds.
        utc_s: Seconds since 1970.
    """
    writer, spec = parts.writer, parts.pipeline.spec
    tables = Tables(writer.catalog, spec.namespace, writer.owner.pipeline_uid)
    listed = {symbol.name for source in spec.ingestion for symbol in source.classed_symbols}
    expected = Expected(listed, references(spec))
    every_s = parts.settings.sink_project_every_s
    asked = Asked(parts.admin, parts.pipeline.trades_topics(), parts.pipeline.sink_group)
    keep_days = spec.storage.retention_days if spec.storage is not None else None
    age_every_s, snapshots_days = parts.settings.sink_age_every_s, spec.maintenance.snapshot_retention_days
    aging = clearing = None
    if keep_days is not None:
        aging = Aging(writer, keep_days, parts.metrics, Turns(age_every_s, clock), utc_s)
        if spec.query.mode != "distributed":  # there Trino does it
            clearing = Clearing(writer, snapshots_days, parts.metrics, Turns(age_every_s, clock), utc_s)
    return Upkeep(
        RawSweep(writer, files, parts.metrics, clock, utc_s),
        Checking(tables, expected, parts.metrics, Turns(parts.settings.sink_check_every_s, clock)),
        LedgerHistory(tables, parts.metrics, Turns(every_s, clock)),
        Letters(tables, asked, parts.metrics, Turns(every_s, clock)),
        aging,
        clearing,
    )
