"""The circuit breaker, on a clock that tests turn."""

from __future__ import annotations

import threading

import pytest

from k2_core.breaker import BreakerState, CircuitBreaker
from k2_core.errors import CircuitOpenError, RetryableError, SpecError


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("venue", failure_threshold=3, cooldown_s=30, clock=clock)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(RetryableError, match="away"), breaker.guard():
            raise RetryableError("away")


def states_around(breaker: CircuitBreaker, clock: Clock, seconds: float) -> tuple[BreakerState, BreakerState]:
    before = breaker.state
    clock.now_s += seconds
    return before, breaker.state


def succeed(breaker: CircuitBreaker) -> None:
    with breaker.guard():
        pass


def test_the_numbers_are_those_of_the_metric() -> None:
    assert {state.name: int(state) for state in BreakerState} == {"CLOSED": 0, "HALF_OPEN": 1, "OPEN": 2}


def test_closed_at_first(breaker: CircuitBreaker) -> None:
    assert (breaker.state, breaker.remaining_s) == (BreakerState.CLOSED, 0.0)


def test_closed_below_the_threshold(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_opens_at_the_threshold_and_refuses(breaker: CircuitBreaker) -> None:
    fail(breaker, 3)
    with pytest.raises(CircuitOpenError, match="venue: 3 failures in a row, circuit is OPEN"), breaker.guard():
        pytest.fail("a call was let through")


def test_only_failures_in_a_row_count(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED


def test_errors_that_are_not_retryable_do_not_count(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        with pytest.raises(SpecError), breaker.guard():
            raise SpecError("x", "y", "z")
    assert breaker.state is BreakerState.CLOSED


def test_says_how_long_to_wait(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 12
    assert breaker.remaining_s == 18
    clock.now_s += 100
    assert breaker.remaining_s == 0


def test_half_open_after_the_cooldown(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 29.9
    assert states_around(breaker, clock, 0.1) == (BreakerState.OPEN, BreakerState.HALF_OPEN)


def test_a_good_trial_closes(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 30
    succeed(breaker)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED  # counted from nothing again


def test_a_bad_trial_opens_at_once_for_a_whole_cooldown(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 30
    fail(breaker)
    assert (breaker.state, breaker.remaining_s) == (BreakerState.OPEN, 30)


def test_one_trial_at_a_time(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 30
    with breaker.guard(), pytest.raises(CircuitOpenError, match="HALF_OPEN"):
        breaker.acquire()


def test_an_abandoned_trial_lets_the_next_one_through(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 30
    with pytest.raises(KeyboardInterrupt), breaker.guard():
        raise KeyboardInterrupt
    before = breaker.state
    succeed(breaker)
    assert (before, breaker.state) == (BreakerState.HALF_OPEN, BreakerState.CLOSED)


def test_many_threads_get_one_trial(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now_s += 30
    gate, let_through = threading.Barrier(8), []

    def ask() -> None:
        gate.wait()
        try:
            breaker.acquire()
        except CircuitOpenError:
            return
        let_through.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert let_through == [1]


def test_its_own_clock_runs() -> None:
    breaker = CircuitBreaker("registry", failure_threshold=1, cooldown_s=3_600)
    fail(breaker)
    assert 3_599 < breaker.remaining_s <= 3_600
