"""What all ingests of a pipeline together say of its symbols: whether each venue knows those that it is asked for.

Written by the ingest of each exchange, read by the operator; see `k2_core.service_report`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from k2_core.service_report import ServiceReport, fresh

TELL_EVERY_S: Final = 15.0
FRESH_S: Final = 60.0
"""Four times what lies between two reports."""
KNOWN: Final = "Known"
"""The reason while the venue knows all symbols."""
UNKNOWN: Final = "UnknownSymbol"
NOT_ASKED: Final = "NotAsked"
"""The reason while the venue has not said."""
NAMES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class SymbolsWord:
    """What all ingests together say.

    Args:
        known: Whether the venues know all symbols; None if one of them has not said.
        reason: One word.
        message: Which symbols are unknown, and the next step; empty if all are known.
    """

    known: bool | None
    reason: str = KNOWN
    message: str = ""


def word_of(reports: Iterable[ServiceReport | None], now: datetime) -> SymbolsWord | None:
    """Return what reports of the last minute say; None without any. An unknown symbol goes before all else."""
    heard = fresh(reports, now, FRESH_S)
    for reason, known in ((UNKNOWN, False), (NOT_ASKED, None)):
        if problems := sorted({one.problem or reason for one in heard if one.reason == reason}):
            return SymbolsWord(known, reason, "; ".join(problems))
    return SymbolsWord(known=True) if heard else None


def listed(names: Sequence[str]) -> str:
    """Return names in words, however many there are."""
    left = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {left} more" if left > 0 else "")
