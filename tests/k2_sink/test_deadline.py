"""A moment in place of an event."""

from __future__ import annotations

import time

from k2_sink.deadline import Deadline


def test_it_is_set_once_its_moment_has_come() -> None:
    now = [1.0]
    deadline = Deadline(3.0, lambda: now[0])
    assert not deadline.is_set()
    assert not deadline.wait(0.001)
    now[0] = 3.0
    assert deadline.is_set()
    assert deadline.wait(60)


def test_no_wait_goes_beyond_it() -> None:
    begun = time.monotonic()
    assert Deadline(begun + 0.05, time.monotonic).wait(60)
    assert 0.04 <= time.monotonic() - begun < 30
