from __future__ import annotations

import pytest

from k2_core.errors import RetryableError
from k2_query.budget import Budget


def test_time_runs_out() -> None:
    now = [100.0]
    budget = Budget(10, clock=lambda: now[0])
    budget.check()
    now[0] = 104.0
    assert budget.remaining_s == 6.0
    now[0] = 110.5
    assert budget.remaining_s == 0.0
    with pytest.raises(RetryableError, match="found no end after 10 s"):
        budget.check()


def test_cancelling_interrupts_what_runs_and_says_why() -> None:
    calls: list[str] = []
    budget = Budget(10)
    with budget.interruptible(lambda: calls.append("interrupted")):
        budget.cancel("first reason")
        budget.cancel("second reason")
    budget.cancel("third reason")
    assert calls == ["interrupted", "interrupted"]
    with pytest.raises(RetryableError, match="first reason"):
        budget.check()
    with pytest.raises(RetryableError, match="first reason"), budget.interruptible(lambda: None):
        pass
