"""Pings, pongs, age and message rate of a connection."""

from __future__ import annotations

from k2_ingest.exchange.config import Limits
from k2_ingest.exchange.heartbeat import Beat, Heartbeat, MessageRate

LIMITS = Limits(ping_interval_s=20, pong_timeout_s=60, connection_lifetime_s=1_000)


def test_a_ping_is_due_every_interval() -> None:
    heartbeat = Heartbeat(LIMITS, 0)
    assert (heartbeat.next_s(), heartbeat.beat(19)) == (20, Beat.NOTHING)
    assert heartbeat.beat(20) is Beat.PING
    heartbeat.pinged(b"1", 20)
    assert (heartbeat.next_s(), heartbeat.beat(39), heartbeat.beat(40)) == (40, Beat.NOTHING, Beat.PING)


def test_an_unanswered_ping_ends_the_connection_after_a_minute() -> None:
    heartbeat = Heartbeat(LIMITS, 0)
    for second in (20, 40, 60):
        heartbeat.pinged(b"%d" % second, second)
    assert heartbeat.next_s() == 80
    assert heartbeat.beat(80) is Beat.NO_PONG


def test_a_pong_answers_its_ping_and_those_before() -> None:
    heartbeat = Heartbeat(LIMITS, 0)
    for second in (20, 40, 60):
        heartbeat.pinged(b"%d" % second, second)
    heartbeat.ponged(b"40")
    assert heartbeat.beat(100) is Beat.PING
    assert heartbeat.beat(120) is Beat.NO_PONG


def test_an_unsolicited_pong_prevents_nothing() -> None:
    heartbeat = Heartbeat(LIMITS, 0)
    heartbeat.pinged(b"1", 20)
    heartbeat.ponged(b"")
    assert heartbeat.beat(80) is Beat.NO_PONG


def test_age_ends_the_connection() -> None:
    heartbeat = Heartbeat(LIMITS, 0)
    heartbeat.pinged(b"1", 990)
    assert heartbeat.next_s() == 1_000
    assert heartbeat.beat(1_000) is Beat.TOO_OLD


def test_the_message_rate_is_counted_over_any_second() -> None:
    rate = MessageRate(2)
    assert [rate.allows(second) for second in (0.0, 0.9, 1.1, 1.2)] == [True, True, True, False]
