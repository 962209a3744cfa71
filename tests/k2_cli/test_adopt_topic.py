"""`k2 adopt-topic` on a real Kafka: topics made again, records that retention took, another cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from k2_core.raw_files import RawFiles
from k2_core.state import Loss
from k2_core.types import Offset, Partition
from k2_sink.commit import Recovery, recover
from support.records import Record, make_trades
from support.recovery import Recovered

pytestmark = pytest.mark.kafka
SYMBOLS = tuple(f"S{number}USDT" for number in range(8))


def commit(work: Recovered, trades: list[Record]) -> None:
    work.produce(trades)
    work.run_to_end()


def test_a_topic_that_was_made_again_goes_on_behind_the_loss(work: Recovered) -> None:
    work.partitions = 4
    old, new = make_trades(300, symbols=SYMBOLS, seed=51), make_trades(200, symbols=("NEWUSDT",), seed=52)
    commit(work, old)
    before = work.state.topics[work.topic]
    work.produce(make_trades(50, symbols=("LOSTUSDT",), seed=53))  # in the log, and in no table
    work.delete_topic()
    work.refused("it was deleted and made again", f"`k2 adopt-topic {work.topic}`")
    answer = work.command("adopt-topic", work.topic, "--yes", "--reason", "by mistake")
    assert answer.code == 0, answer.err
    assert "an unknown number of offsets" in answer.out
    commit(work, new)
    assert work.rows().keys() == {trade["message_id"] for trade in old + new}
    after = work.state
    assert after.topics[work.topic].former == {before.id: before.partitions}
    assert set(after.losses) == {
        Loss(work.topic, before.id, at, one.next, None, "by mistake") for at, one in before.partitions.items()
    }
    work.balanced()


def test_what_retention_took_is_counted_as_lost(work: Recovered) -> None:
    trades = make_trades(300, symbols=("S0USDT",), seed=54)
    commit(work, trades[:100])
    [partition] = [at for at, one in work.state.topics[work.topic].partitions.items() if one.next]
    work.produce(trades[100:])
    work.trim(partition, 160)
    work.refused("expected it to hold offset 100", f"`k2 adopt-topic {work.topic}`")
    dry = work.command("adopt-topic", work.topic, "--dry-run", "--json").document
    assert dry["snapshot_id"] is None
    assert f"{work.topic} partition {partition} from 100: 60 offsets" in dry["does"][0]
    assert work.command("adopt-topic", work.topic, "--yes", "--json").code == 0
    work.run_to_end()
    assert work.rows().keys() == {trade["message_id"] for trade in trades[:100] + trades[160:]}
    stands = work.state.topics[work.topic].partitions[partition]
    assert (stands.lost, stands.next, stands.rows()) == (60, 300, 240)
    [loss] = work.state.losses
    assert (loss.start, loss.end, loss.reason) == (100, 160, "not given")
    work.balanced()


def test_where_nothing_is_lost_nothing_is_written(work: Recovered) -> None:
    commit(work, make_trades(50, symbols=SYMBOLS, seed=55))
    snapshots = len(work.table.metadata.snapshots)
    assert work.command("adopt-topic", work.topic, "--yes").out == "nothing is lost: nothing to do\n"
    assert work.command("adopt-topic", work.topic, "--yes", "--json").document["snapshot_id"] is None
    assert len(work.table.metadata.snapshots) == snapshots


def test_a_topic_of_another_pipeline_is_named(work: Recovered) -> None:
    commit(work, make_trades(50, symbols=SYMBOLS, seed=56))
    answer = work.command("adopt-topic", "market.other", "--yes")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"found 'market.other', expected one that the table has: {work.topic}" in answer.err


def test_another_cluster_is_accepted_with_all_topics(work: Recovered) -> None:
    trades = make_trades(200, symbols=SYMBOLS, seed=57)
    commit(work, trades[:100])
    elsewhere = replace(work.state, cluster_id="elsewhere", epoch=1)
    recover(work.table, Recovery(elsewhere, "local/default/test", {}))
    work.produce(trades[100:])
    work.refused("Kafka cluster: found", "expected elsewhere", f"`k2 adopt-topic {work.topic}`")
    answer = work.command("adopt-topic", work.topic, "--yes")
    assert answer.code == 0, answer.err
    assert "Kafka cluster elsewhere, now" in answer.out
    work.run_to_end()
    work.check(trades)


def test_a_state_that_is_not_the_heads_comes_first(work: Recovered) -> None:
    commit(work, make_trades(50, symbols=SYMBOLS, seed=58))
    commit(work, make_trades(50, symbols=SYMBOLS, seed=59))
    work.table.manage_snapshots().set_current_snapshot(work.table.metadata.snapshots[0].snapshot_id).commit()
    answer = work.command("adopt-topic", work.topic, "--yes")
    assert answer.code == 5
    assert "`k2 adopt`" in answer.err


def test_a_log_that_ends_before_the_table_cannot_be_adopted(work: Recovered) -> None:
    commit(work, make_trades(50, symbols=("S0USDT",), seed=60))
    topic = work.state.topics[work.topic]
    ahead = {at: replace(one, next=Offset(one.next + 10), markers=10) for at, one in topic.partitions.items()}
    state = replace(work.state.with_partitions(work.topic, topic.id, ahead, "b"), epoch=1)
    recover(work.table, Recovery(state, "local/default/test", {}))
    work.refused("The brokers lost records: delete the topic", f"`k2 adopt-topic {work.topic}`")
    assert "delete the topic, and run this again" in work.command("adopt-topic", work.topic, "--yes").err
    work.delete_topic()
    assert work.command("adopt-topic", work.topic, "--yes").code == 0
    assert work.state.topics[work.topic].partitions.keys() == {Partition(number) for number in range(4)}


def test_of_what_was_deferred_what_retention_took_is_lost_and_the_rest_comes_in(work: Recovered) -> None:
    work.priorities = {"S0USDT": "low", "S1USDT": "critical"}
    work.partitions = 1
    work.set_level(2)
    trades = make_trades(300, symbols=("S0USDT", "S1USDT"), seed=58)
    commit(work, trades)
    owed = [number for number, trade in enumerate(trades) if trade["symbol"] == "S0USDT"]
    assert work.owed() == len(owed)
    work.trim(0, 100)
    work.refused(f"{len(owed)} records are owed", f"`k2 adopt-topic {work.topic}`")
    assert work.command("adopt-topic", work.topic, "--yes", "--reason", "too late").code == 0
    lost = sum(number < 100 for number in owed)
    [entry] = work.state.open_ledger
    assert (entry.start, entry.end, entry.records) == (100, 300, len(owed) - lost)
    assert work.state.topics[work.topic].partitions[Partition(0)].lost == lost
    assert [(loss.start, loss.end) for loss in work.state.losses] == [(0, 100)]
    work.set_level(0)
    work.run_to_end()
    gone = {trade["message_id"] for number, trade in enumerate(trades) if number in owed and number < 100}
    assert work.rows().keys() == {trade["message_id"] for trade in trades} - gone
    work.balanced()
    assert work.command("adopt-topic", work.topic, "--yes").out == "nothing is lost: nothing to do\n"


def test_what_raw_files_hold_is_not_lost_with_the_log_and_what_they_lack_is(work: Recovered) -> None:
    work.priorities = {"S1USDT": "critical"}
    work.partitions = 1
    work.set_level(3)
    trades = make_trades(300, symbols=("S0USDT", "S1USDT"), seed=59)
    commit(work, trades)
    owed = {trade["message_id"] for trade in trades if trade["symbol"] == "S0USDT"}
    work.trim(0, 300)
    assert work.command("adopt-topic", work.topic, "--yes").out == "nothing is lost: nothing to do\n"
    files = RawFiles(work.table.io, work.table.location())
    for name in files.names():
        Path(files.path(name).removeprefix("file://")).rename(work.folder / name)
    assert (
        work.command("adopt-topic", work.topic, "--dry-run", "--json").document["does"][0].startswith("record as lost")
    )
    for name in (path.name for path in work.folder.glob("*.raw")):
        (work.folder / name).rename(files.path(name).removeprefix("file://"))
    work.set_level(0)
    work.run_to_end()
    assert owed < work.rows().keys() == {trade["message_id"] for trade in trades}
    work.balanced()


def test_what_nothing_has_any_more_can_be_accepted_as_lost(work: Recovered) -> None:
    work.priorities = {"S1USDT": "critical"}
    work.partitions = 1
    work.set_level(3)
    trades = make_trades(200, symbols=("S0USDT", "S1USDT"), seed=60)
    commit(work, trades)
    files = RawFiles(work.table.io, work.table.location())
    for name in files.names():
        files.delete(name)
    work.trim(0, 200)
    assert work.command("adopt-topic", work.topic, "--yes").code == 0
    assert work.state.open_ledger == ()
    owed = sum(trade["symbol"] == "S0USDT" for trade in trades)
    assert work.state.topics[work.topic].partitions[Partition(0)].lost == owed
    work.set_level(0)
    work.run_to_end()
    assert work.rows().keys() == {trade["message_id"] for trade in trades if trade["symbol"] == "S1USDT"}
    work.balanced()
