"""What the sinks tell of their commits, read back from a real Kafka; and that a Kafka that refuses it stops nobody."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime, timedelta

import pytest

import k2_core.kafka
from k2_core.commit_signal import CommitSignal
from k2_core.config import ServiceSettings
from k2_core.kafka import KafkaAdmin
from k2_core.types import Offset, Partition, TopicName
from k2_sink.signals import CommitSignals
from support.records import make_trades
from support.sink import SinkWorkspace
from support.waiting import wait_until

pytestmark = pytest.mark.kafka
AT = datetime(2026, 3, 1, tzinfo=UTC)


def new_group() -> str:
    return f"k2.test.{uuid.uuid4().hex}.committed"


def test_the_newest_of_many_is_what_stands(work: SinkWorkspace) -> None:
    group = new_group()
    signals = CommitSignals(work.admin, group, now=lambda: AT)
    for offset in range(1, 200):
        signals.tell({(work.topic, Partition(0)): Offset(offset)}, None)
    signals.tell({(work.topic, Partition(1)): Offset(7)}, AT, AT + timedelta(seconds=1))
    assert signals.flush(30)
    found = work.admin.group_signals(group, work.topic)
    assert {at: offset for at, (offset, _) in found.items()} == {0: 199, 1: 7}
    assert CommitSignal.parse(found[Partition(0)][1]) == CommitSignal(AT, None)
    assert CommitSignal.parse(found[Partition(1)][1]) == CommitSignal(AT + timedelta(seconds=1), AT)


def test_one_write_at_a_time(work: SinkWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, sent = work.admin, []
    write = admin.write_group_signals

    def counted(*arguments: object) -> object:
        sent.append(arguments)
        return write(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(admin, "write_group_signals", counted)
    signals = CommitSignals(admin, new_group())
    for offset in range(1, 1_000):
        signals.tell({(work.topic, Partition(0)): Offset(offset)}, None)
    assert signals.flush(30)
    assert 2 <= len(sent) < 500


def test_no_broker_is_said_once_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(k2_core.kafka, "ADMIN_TIMEOUT_S", 2.0)
    signals = CommitSignals(KafkaAdmin(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1")), new_group())
    with caplog.at_level(logging.WARNING, logger="k2_sink.signals"):
        for offset in (1, 2):
            signals.tell({(TopicName("t"), Partition(0)): Offset(offset)}, None)
            assert not signals.flush(0)  # whoever commits does not wait for it
            assert signals.flush(30)
    assert [record.getMessage() for record in caplog.records if record.name == "k2_sink.signals"] == [
        "committed positions were not written, the next commit tries again"
    ]


def test_flush_gives_up_in_time(work: SinkWorkspace) -> None:
    signals = CommitSignals(KafkaAdmin(ServiceSettings(kafka_bootstrap_servers="127.0.0.1:1")), new_group())
    signals.tell({(work.topic, Partition(0)): Offset(1)}, None)
    assert not signals.flush(0.05)


def test_a_sink_tells_each_commit_and_tells_again_what_its_predecessor_could_not(work: SinkWorkspace) -> None:
    group = f"k2.{work.namespace}.test.committed"
    trades = make_trades(400, symbols=("BTCUSDT", "ETHUSDT", "XRPUSDT"), seed=11)
    work.produce(trades)
    began = datetime.now(UTC)
    work.run_to_end()
    found = work.admin.group_signals(group, work.topic)
    ends = work.admin.stable_ends(work.topic, [Partition(at) for at in range(work.partitions)])
    assert {at: offset for at, (offset, _) in found.items()} == ends
    told = [signal for _, text in found.values() if (signal := CommitSignal.parse(text)) is not None]
    assert len(told) == work.partitions
    assert all(began < signal.committed_at < datetime.now(UTC) for signal in told)
    newest = max(trade["exchange_timestamp"] for trade in trades)
    assert {signal.newest_event_time for signal in told} == {newest}

    admin = work.admin
    admin.write_group_signals(group, {(work.topic, Partition(0)): (Offset(0), "lost")}).result(30)
    sink = work.start()
    sink.wait_said("partitions taken")
    wait_until(lambda: admin.group_offsets(group, work.topic) == ends, "the signal to be told again")
    assert sink.terminate() == 0
