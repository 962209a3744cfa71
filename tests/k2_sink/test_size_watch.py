"""How near a log of bounded bytes is to its bound: what hurries a drain, and what is told of it."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from k2_core.sink_report import SinkReport
from k2_core.state import LedgerEntry
from k2_core.types import Offset, Partition, TopicName
from k2_sink.size_watch import RATE_OVER_S, SizeWatch
from support.records import make_trades
from support.sink import NAME, PATIENCE_S, SinkWorkspace
from support.waiting import wait_until

TOPIC = TopicName("t")
AT, OTHER = (TOPIC, Partition(0)), (TopicName("unbounded"), Partition(0))


def entry(start: int, raw_file: str | None = None) -> LedgerEntry:
    return LedgerEntry(*AT, Offset(start), Offset(start + 10), ("A",), 2, "", 10, raw_file=raw_file)


def test_what_is_not_known_hurries_nobody() -> None:
    size = SizeWatch({TOPIC: 1_000})
    size.look({AT: 500}, None)
    assert (size.before(0.8), size.used_share([entry(0)]), size.record_bytes) == ({}, None, None)
    assert not size.forgets_within(1e6)
    unbounded = SizeWatch()
    unbounded.look({AT: 500}, 10.0)
    assert (unbounded.before(0.8), unbounded.used_share([entry(0)])) == ({}, None)


def test_what_has_most_of_the_bytes_behind_it_is_in_a_hurry() -> None:
    size = SizeWatch({TOPIC: 1_000})
    size.look({AT: 500, OTHER: 10}, 10.0)  # 100 records
    assert size.before(0.8) == {AT: 420}
    assert size.used_share([entry(450), entry(430), entry(0, raw_file="raw")]) == 0.7
    size.look({AT: 510}, None)  # what a record needs is still known
    assert size.used_share([entry(450)]) == 0.6
    assert size.used_share([]) is None


def test_the_greatest_rate_says_how_soon_it_forgets() -> None:
    now = [0.0]
    size = SizeWatch({TOPIC: 36_000}, lambda: now[0])  # 3,600 records
    for end in (100, 100 + 10 * int(RATE_OVER_S), 101 + 10 * int(RATE_OVER_S)):  # at 10 a second, and then next to none
        now[0] += RATE_OVER_S
        size.look({AT: end}, 10.0)
    assert size.forgets_within(0.11)
    assert not size.forgets_within(0.09)


def told(work: SinkWorkspace) -> float | None:
    """Return the share of the log's bytes that the sink says is used up."""
    signals = work.admin.group_signals(f"k2.{work.namespace}.{NAME}.sink", work.topic)
    reports = [SinkReport.parse(text) for _, text in signals.values()]
    return next((one.deferred_share for one in reports if one is not None), None)


@pytest.mark.kafka
@pytest.mark.levels
def test_what_would_leave_a_small_log_is_brought_in_under_load(work: SinkWorkspace) -> None:
    work.priorities = {"BTCUSDT": "critical", "LATEUSDT": "low"}
    admin = AdminClient({"bootstrap.servers": work.bootstrap_servers})
    limits = {"retention.bytes": "200000", "segment.bytes": "1048576"}
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in limits.items()]
    resource = ConfigResource(ResourceType.TOPIC, work.topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)
    assert work.admin.retention_bytes([work.topic]) == {work.topic: 200_000}
    work.set_level(2)
    sink = work.start()
    sink.wait_said("level changed")
    trades = make_trades(200, symbols=("LATEUSDT",), seed=71)
    work.produce(trades)
    wait_until(lambda: work.owed() == 200, "all to be put off")
    wait_until(lambda: told(work) is not None, "the bytes of a record")
    assert 0 < (told(work) or 0) < 0.8
    assert work.owed() == 200
    more = make_trades(4_000, symbols=("LATEUSDT",), seed=72, first_id=10_000)
    work.produce(more)
    wait_until(lambda: sink.said("drained"), "what would leave the log to come in at level 2")
    work.set_level(0)
    wait_until(lambda: work.owed() == 0, "the rest")
    assert sink.terminate() == 0
    work.check(trades + more)
