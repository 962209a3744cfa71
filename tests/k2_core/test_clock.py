from __future__ import annotations

import time
from datetime import timedelta

from k2_core.clock import utc_now


def test_it_is_now_and_in_utc() -> None:
    before_s = time.time()
    now = utc_now()
    assert now.utcoffset() == timedelta(0)
    assert before_s - 1e-6 <= now.timestamp() <= time.time() + 1e-6  # a datetime holds whole microseconds
