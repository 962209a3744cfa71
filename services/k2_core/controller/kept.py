"""At which level a controller begins that finds nothing said: at the one that sinks keep.

The control topic may have gone with all that stood there while no controller ran; sinks that run go on at what they
were told last. Called by `k2_core.controller.loop` when it begins. Pure.
"""

from __future__ import annotations

from typing import Final

from k2_core.controller.look import Look
from k2_core.controller.stall import STALLED_AFTER_S
from k2_core.errors import KafkaUnavailableError
from k2_core.sink_report import FRESH_S
from k2_core.types import Level

WAIT_FOR_S: Final = STALLED_AFTER_S
"""How old the last word of a sink may be that is waited for: one that is longer silent hangs, and counts no more."""


def kept_level(look: Look) -> Level:
    """Return the highest level that a sink was commanded which says so now; NORMAL where none says anything.

    What a sink has raised itself to is not among it, nor what sinks said that are gone.

    Args:
        look: With the reports of sinks, fresh or not.

    Raises:
        KafkaUnavailableError: A sink that was commanded a higher level a moment ago is silent now, as during a commit,
            and a member of the group may be it: it is not known what it keeps.
    """
    fresh = [report for report in look.reports.values() if report.fresh(look.at)]
    kept = max((report.level for report in fresh), default=Level.NORMAL)
    ages_s = [(look.at - report.at).total_seconds() for report in look.reports.values() if report.level > kept]
    silent_s = min((age_s for age_s in ages_s if FRESH_S <= age_s < WAIT_FOR_S), default=None)
    if silent_s is not None and look.members > len(fresh):
        raise KafkaUnavailableError(
            f"level that sinks keep: found {silent_s:.0f} s of silence of one, expected its word each second; "
            "the control topic holds no level"
        )
    return kept
