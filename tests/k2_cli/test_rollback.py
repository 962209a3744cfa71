"""`k2 rollback` on real tables, and sinks that read the log again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_cli.recovery.site import summary_state
from k2_core.state import PIPELINE_KEY, STATE_KEY
from k2_core.topics import partition_of
from k2_core.types import Partition, Symbol
from support.cli import Lake, k2
from support.records import make_trades
from support.recovery import Recovered
from support.waiting import wait_until

SYMBOLS = tuple(f"S{number}USDT" for number in range(8))


@pytest.mark.kafka
def test_rows_and_state_go_back_in_one_commit_and_the_log_is_read_again(work: Recovered) -> None:
    trades = make_trades(600, symbols=SYMBOLS, seed=41)
    old, _ = work.commit(trades[:200], trades[200:])
    before = summary_state(old)
    assert before is not None
    pointer = work.table.metadata_location
    answer = work.command("rollback", "--to", old.snapshot_id, "--yes", "--reason", "wrong trades")
    assert answer.code == 0, answer.err
    assert f"read 400 offsets of {work.topic} again" in answer.out
    assert len(work.rows()) == 200
    assert work.table.metadata.metadata_log[-1].metadata_file == pointer
    assert work.state.topics == before.topics
    assert (work.state.epoch, work.summary["k2.recovery"]) == (1, "rollback")
    work.balanced()
    work.run_to_end()
    work.check(trades)


@pytest.mark.kafka
def test_a_running_sink_without_records_reads_again_what_was_taken_back(work: Recovered) -> None:
    only_some = [symbol for symbol in SYMBOLS if partition_of(Symbol(symbol), 4) == partition_of(Symbol("S0USDT"), 4)]
    first, second = make_trades(100, symbols=only_some, seed=42), make_trades(200, symbols=("XUSDT", "YUSDT"), seed=43)
    sink = work.start()
    work.produce(first)
    wait_until(lambda: work.committed() == 100, "the first trades")
    old = work.table.metadata.current_snapshot_id
    work.produce(second)
    wait_until(lambda: work.committed() == 300, "the second trades")
    assert work.command("rollback", "--to", old, "--yes", "--json").code == 0
    assert len(work.rows()) == 100
    sink.wait_said("the table was recovered: batch dropped")
    wait_until(lambda: work.committed() == 300, "the second trades again")
    assert sink.terminate() == 0
    work.check(first + second)


@pytest.mark.kafka
def test_where_the_log_does_not_reach_back_the_sink_names_the_next_command(work: Recovered) -> None:
    trades = make_trades(300, symbols=("S0USDT",), seed=44)
    partition = Partition(int(partition_of(Symbol("S0USDT"), 4)))
    old = work.commit(trades[:100], trades[100:])[0].snapshot_id
    work.trim(partition, 150)
    answer = work.command("rollback", "--to", old, "--yes")
    assert f"then: `k2 adopt-topic {work.topic}`" in answer.out
    work.refused("expected it to hold offset 100", f"`k2 adopt-topic {work.topic}`")
    assert work.command("adopt-topic", work.topic, "--yes").code == 0
    work.run_to_end()
    assert len(work.rows()) == 250
    assert work.state.topics[work.topic].partitions[partition].lost == 50
    work.balanced()


@pytest.mark.kafka
def test_what_the_older_snapshot_owed_comes_back_from_raw_files(work: Recovered) -> None:
    work.priorities = {"S1USDT": "critical"}
    work.partitions = 1
    trades = make_trades(200, symbols=("S0USDT", "S1USDT"), seed=45)
    work.set_level(3)
    [owing] = work.commit(trades)
    owed = work.owed()
    assert owed == sum(trade["symbol"] == "S0USDT" for trade in trades)
    work.trim(0, 200)
    work.set_level(0)
    work.run_to_end()
    assert work.rows().keys() == {trade["message_id"] for trade in trades}
    assert work.command("rollback", "--to", owing.snapshot_id, "--yes").code == 0
    assert (work.owed(), len(work.rows())) == (owed, 200 - owed)
    work.run_to_end()
    assert work.rows().keys() == {trade["message_id"] for trade in trades}
    work.balanced()


def commits(lake: Lake) -> list[int]:
    for ids in ([10, 11], [12], [13, 14]):
        lake.commit(ids)
    return [snapshot.snapshot_id for snapshot in lake.table.metadata.snapshots]


def rows(lake: Lake) -> int:
    return len(lake.table.scan().to_arrow())


def test_a_rollback_can_be_taken_back(lake: Lake) -> None:
    first, _, last = commits(lake)
    dry = k2("rollback", "--dir", lake.folder.root, "--to", first, "--dry-run")
    assert (dry.code, rows(lake)) == (0, 5)
    assert "Kafka does not run now" in dry.out
    assert k2("rollback", "--dir", lake.folder.root, "--to", first, "--yes").code == 0
    assert rows(lake) == 2
    assert k2("rollback", "--dir", lake.folder.root, "--to", last, "--yes").code == 0
    assert rows(lake) == 5
    assert k2("audit", "--dir", lake.folder.root).code == 0
    assert '"epoch":2' in lake.table.properties[STATE_KEY]


@pytest.mark.parametrize("zone", ["+00:00", "", "Z"], ids=["offset", "none is UTC", "zulu"])
def test_a_time_names_the_snapshot_that_was_the_newest_then(lake: Lake, zone: str) -> None:
    commits(lake)
    second = lake.table.metadata.snapshots[1].timestamp_ms
    moment = (datetime.fromtimestamp(0, tz=UTC) + timedelta(milliseconds=second)).replace(tzinfo=None)
    answer = k2("rollback", "--dir", lake.folder.root, "--to", f"{moment.isoformat()}{zone}", "--yes")
    assert answer.code == 0, answer.err
    assert rows(lake) == 3


@pytest.mark.parametrize(
    ("to", "says"),
    [
        pytest.param("42", "--to: found 42, expected a snapshot that the table has", id="unknown id"),
        pytest.param("2001-01-01", "expected a snapshot that the table has", id="before all"),
        pytest.param("yesterday", "expected a snapshot's id or an ISO 8601 time", id="neither"),
    ],
)
def test_a_target_that_is_none_is_bad_input(lake: Lake, to: str, says: str) -> None:
    commits(lake)
    answer = k2("rollback", "--dir", lake.folder.root, "--to", to, "--yes")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert says in answer.err


def test_a_snapshot_of_another_tool_has_no_place_in_the_log(lake: Lake) -> None:
    lake.commit([10, 11])
    lake.table.delete("sequence = 11")
    foreign = lake.table.metadata.current_snapshot_id
    answer = k2("rollback", "--dir", lake.folder.root, "--to", foreign, "--yes")
    assert answer.code == 5
    assert f"snapshot {foreign}: found no commit state" in answer.err


def test_another_pipelines_table_is_not_taken_back(lake: Lake) -> None:
    first, *_ = commits(lake)
    with lake.table.transaction() as transaction:
        transaction.set_properties({PIPELINE_KEY: "other"})
    answer = k2("rollback", "--dir", lake.folder.root, "--to", first, "--yes")
    assert answer.code == 5
    assert "found pipeline other" in answer.err
