"""What the sinks of a `k2 up` that stops still owe to the table, from their figures, and the wait for it.

Called by `k2_cli.up` once nothing new comes in and the controller has told sinks to put nothing off any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from k2_cli.scrape import Sample
from k2_core.policy.classes import OWES_NOTHING_NEW

PATIENCE_S: Final = 90.0
"""As long as a sink may take to read to the end; 20,000 records a second come back meanwhile."""
SILENCE_S: Final = 15.0
"""For a sink that does not answer, as one may for seconds on a crowded machine: what it owes is not known meanwhile."""
LOOK_EVERY_S: Final = 0.2


def owed(sample: Sample) -> int:
    """Return how many records a sink has put off, or has yet to read at a level that may put them off."""
    put_off = sample.total("k2_sink_ledger_open_records") or 0
    defers = (sample.total("k2_degradation_level") or 0) > OWES_NOTHING_NEW
    return int(put_off + ((sample.total("k2_sink_unread_lag_records") or 0) if defers else 0))


def settle(
    look: Callable[[], Mapping[str, Sample | None]],
    say: Callable[[str], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Wait until nothing is owed, for as long as `PATIENCE_S`; return what is left.

    A sink that does not answer owes what it owed before, and is asked again for as long as `SILENCE_S`.

    Args:
        look: Reads the figures of each sink that runs, by its name; None for one that did not answer.
        say: Tells the user for what is waited.
        clock: Monotonic seconds.
        sleep: Waits.
    """
    heard_s = began_s = clock()
    owing: dict[str, int] = {}
    said = False
    while True:
        samples, now_s = look(), clock()
        silent = None in samples.values()
        heard_s = heard_s if silent else now_s
        owing = {name: owing.get(name, 0) if one is None else owed(one) for name, one in samples.items()}
        left = sum(owing.values())
        if left and not said:
            said = True
            say(f"bringing in {left:,} records that levels put off, or may yet (Ctrl-C again kills; they are kept)")
        ask_again = left or (silent and now_s < heard_s + SILENCE_S)
        if not ask_again or now_s >= began_s + PATIENCE_S:
            return left
        sleep(LOOK_EVERY_S)
