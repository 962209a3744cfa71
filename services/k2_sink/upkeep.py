"""What a sink does when nothing is more urgent: removes litter, and looks through what was committed.

Nothing here keeps rows from being committed or paid back, so no fault of it does. Called by the sink's loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from k2_core.errors import RetryableError, StateError
from k2_core.raw_files import RawFiles
from k2_core.types import Level
from k2_sink.checking import Checking, Pace, Tables
from k2_sink.parts import Parts
from k2_sink.raw_sweep import RawSweep

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The sink's spare-time work.

    Args:
        sweep: Of raw files.
        checking: Of rows.
    """

    sweep: RawSweep
    checking: Checking

    def step(self, level: Level) -> None:
        """Do what is due at this level; what fails is due again at its next time."""
        for what, do in (("raw files", self.sweep.step), ("checks", self.checking.step)):
            try:
                do(level)
            except (RetryableError, StateError) as error:  # policy: what is committed stands, whatever becomes of this
                _log.error("%s: will be tried again", what, extra={"error": str(error)})


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
    checking = Checking(tables, listed, parts.metrics, Pace(parts.settings.sink_check_every_s), clock)
    return Upkeep(RawSweep(writer, files, clock, utc_s), checking)
