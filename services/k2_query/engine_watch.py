"""Asks the engine again and again whether it would answer, so that `/readyz` and `/health` can say so.

Called by `k2_query.runtime` for an engine of other machines. It has a thread of its own: checks of health call nothing
remote themselves.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from k2_core.errors import K2Error
from k2_query.budget import Budget
from k2_query.engine import Engine
from k2_query.lake import LakeSnapshot
from k2_query.ordering import Order

EVERY_S: Final = 5.0
TIMEOUT_S: Final = 8.0
"""Of one question; Trino says after 5 s that it has no worker."""
STALE_S: Final = 3 * (EVERY_S + TIMEOUT_S)
WARM_WITHIN_S: Final = 5.0
"""Half of what a request has by default. A Trino that was just started takes longer for its first real question."""
WARM_UPS: Final = 12
"""Tries at that. An engine that is never so fast is ready then, slow as it is: some answers are better than none."""
_WARM_WINDOW_S: Final = 900
_WARM_ROWS: Final = 1_000
_SOON_S: Final = 0.1

_log = logging.getLogger(__name__)


class EngineWatch:
    """The one who asks.

    Args:
        engine: What is asked.
        snapshot: The newest that is known; nothing is asked before there is one.
        every_s: Pause between two questions.
        told: Is told after each question why there was no answer; None if there was one.
    """

    def __init__(
        self,
        engine: Engine,
        snapshot: Callable[[], LakeSnapshot | None],
        every_s: float = EVERY_S,
        told: Callable[[K2Error | None], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._snapshot = snapshot
        self._every_s = every_s
        self._told = told
        self._stopping = threading.Event()
        self._answered = False
        self._warm_ups = 0
        self._problem: str | None = None
        self._asked_s = -math.inf
        self._thread = threading.Thread(target=self._run, name="engine-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; returns when the last question is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def ready(self) -> str | None:
        """See `k2_core.health.Check`: content once there was an answer as fast as requests need it, however long ago.

        Whoever fails afterwards gets the reason as the answer; a pod that was taken out of its Service would give none.
        """
        return None if self._answered else self._problem or "found no answer of the engine yet, expected one"

    def check(self) -> str | None:
        """See `k2_core.health.Check`: content while the newest question was answered."""
        age_s = time.monotonic() - self._asked_s
        if self._problem is None and age_s > STALE_S:
            return f"found no answer within {STALE_S:g} s, expected one every {EVERY_S:g} s"
        return self._problem

    @property
    def answers(self) -> bool | None:
        """Whether the newest question was answered in time; None while none is over yet."""
        if self._problem is None and not self._answered:
            return None
        return self.check() is None

    def _run(self) -> None:
        while not self._stopping.is_set():
            lake = self._snapshot()
            if lake is not None:
                self._ask(lake)
            self._stopping.wait(_SOON_S if lake is None else self._every_s)

    def _ask(self, lake: LakeSnapshot) -> None:
        try:
            self._engine.check(lake, Budget(TIMEOUT_S))
        except K2Error as error:  # policy: it is what `/health` shows, and the next question is the next try
            if str(error) != self._problem:
                _log.warning("engine: %s", error)
            self._problem = str(error)
            self._told(error)
        else:
            self._problem, self._asked_s = None, time.monotonic()
            self._told(None)
            self._answered = self._answered or self._is_warm(lake)

    def _is_warm(self, lake: LakeSnapshot) -> bool:
        """Ask what users ask, and return whether they would have had an answer in good time."""
        window = lake.index.newest_window(_WARM_WINDOW_S)
        if window is None:
            return True
        self._warm_ups += 1
        began_s = time.monotonic()
        try:
            self._engine.rows(lake, window, Order.DESC, _WARM_ROWS, Budget(WARM_WITHIN_S))
        except K2Error as error:  # policy: slow or failed, the next try is a few seconds away
            took = f"none within {time.monotonic() - began_s:.1f} s ({error})"
            _log.info("engine: not warm yet", extra={"answer": took, "tries": self._warm_ups})
            return self._warm_ups >= WARM_UPS
        return True
