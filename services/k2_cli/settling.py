"""What the sinks of a `k2 up` that stops still owe to the table, from their figures, and the wait for it.

Called by `k2_cli.up` once nothing new comes in and the controller has told sinks to put nothing off any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from k2_cli.scrape import Sample
from k2_core.types import Level

PATIENCE_S: Final = 90.0
"""As long as a sink may take to read to the end; 20,000 records a second come back meanwhile."""
LOOK_EVERY_S: Final = 0.2


def owed(samples: Iterable[Sample | None]) -> int:
    """Return how many records sinks have put off, or not read as they stand still; silent ones owe none.

    Args:
        samples: Of each sink, None if it did not answer.
    """
    known = [sample for sample in samples if sample is not None]
    put_off = sum(sample.total("k2_sink_ledger_open_records") or 0 for sample in known)
    still = [sample for sample in known if sample.total("k2_degradation_level") == Level.CIRCUIT_BREAK]
    return int(put_off + sum(sample.total("k2_sink_unread_lag_records") or 0 for sample in still))


def settle(
    look: Callable[[], Iterable[Sample | None]],
    say: Callable[[str], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Wait until nothing is owed, for as long as `PATIENCE_S`; return what is left.

    Args:
        look: Reads each sink's figures.
        say: Tells the user for what is waited.
        clock: Monotonic seconds.
        sleep: Waits.
    """
    until_s, left = clock() + PATIENCE_S, owed(look())
    if left:
        say(f"bringing in {left:,} records that levels put off (Ctrl-C again kills; they are kept)")
    while left and clock() < until_s:
        sleep(LOOK_EVERY_S)
        left = owed(look())
    return left
