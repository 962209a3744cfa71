"""Request weights, 429 and 418, connection attempts."""

from __future__ import annotations

from k2_ingest.exchange.config import Limits
from k2_ingest.exchange.weights import Accounts

LIMITS = Limits(weight_per_minute=100, strikes=2, ban_s=120, connection_attempts=2)


def test_weights_add_up_within_a_minute_and_start_again() -> None:
    accounts = Accounts(LIMITS)
    assert accounts.charge("a", 40, 0.0).used == 40
    assert accounts.charge("a", 40, 59.9).used == 80
    assert accounts.charge("a", 40, 60.0).used == 40


def test_addresses_are_counted_apart() -> None:
    accounts = Accounts(LIMITS)
    accounts.charge("a", 100, 0.0)
    assert accounts.charge("b", 1, 0.0).status == 200


def test_too_much_weight_is_429_until_the_minute_ends() -> None:
    accounts = Accounts(LIMITS)
    assert accounts.charge("a", 100, 10.0).status == 200
    verdict = accounts.charge("a", 1, 10.5)
    assert (verdict.status, verdict.retry_after_s) == (429, 50)
    assert accounts.charge("a", 1, 60.0).status == 200


def test_going_on_is_a_ban_that_doubles() -> None:
    accounts = Accounts(LIMITS)
    statuses = [accounts.charge("a", 60, 10.0).status for _ in range(5)]
    assert statuses == [200, 429, 429, 418, 418]
    assert accounts.charge("a", 1, 100.0).retry_after_s == 30
    assert accounts.charge("a", 1, 131.0).status == 200
    again = [accounts.charge("a", 60, 190.0) for _ in range(4)]
    assert (again[-1].status, again[-1].retry_after_s) == (418, 240)


def test_connection_attempts_are_counted_over_five_minutes() -> None:
    accounts = Accounts(LIMITS)
    assert [accounts.attempt("a", second) for second in (0.0, 1.0, 2.0)] == [True, True, False]
    assert accounts.attempt("a", 302.0)
