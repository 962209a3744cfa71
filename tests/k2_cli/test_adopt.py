"""`k2 adopt` on real tables, and sinks that go on from what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pyiceberg.table import Table

from k2_core.errors import StateError
from k2_core.state import PIPELINE_KEY, SNAPSHOT_KEY, STATE_KEY
from support.cli import TOPIC, Lake, k2
from support.records import make_trades
from support.recovery import Recovered
from support.waiting import wait_until

SYMBOLS = tuple(f"S{number}USDT" for number in range(8))


def without(*names: str) -> Callable[[Table], None]:
    def damage(table: Table) -> None:
        with table.transaction() as transaction:
            transaction.remove_properties(*names)

    return damage


def having(**properties: str) -> Callable[[Table], None]:
    def damage(table: Table) -> None:
        with table.transaction() as transaction:
            transaction.set_properties({f"k2.{name.replace('_', '-')}": value for name, value in properties.items()})

    return damage


def rolled_back(table: Table) -> None:
    table.manage_snapshots().set_current_snapshot(table.metadata.snapshots[0].snapshot_id).commit()


def rewritten(table: Table) -> None:
    """Another tool has written all rows anew, and let K2's snapshots and properties go: only the rows are left."""
    before = [snapshot.snapshot_id for snapshot in table.metadata.snapshots]
    table.overwrite(table.scan().to_arrow())
    table.maintenance.expire_snapshots().by_ids(before).commit()
    without(STATE_KEY, SNAPSHOT_KEY)(table)


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("damage", "says", "source"),
    [
        pytest.param(rolled_back, "rolled back by another tool", "the summary of", id="rolled back"),
        pytest.param(rewritten, "found none on a table", "the rows' own log positions", id="only rows left"),
    ],
)
def test_what_the_sink_refuses_is_adopted_and_nothing_is_lost_or_doubled(
    work: Recovered, damage: Callable[[Table], None], says: str, source: str
) -> None:
    trades = make_trades(900, symbols=SYMBOLS, seed=31)
    work.commit(trades[:300], trades[300:600])
    damage(work.table)
    work.produce(trades[600:])
    work.refused(says, "`k2 adopt`")
    answer = work.command("adopt", "--yes", "--json", "--reason", "test")
    assert (answer.code, answer.err) == (0, "")
    assert source in answer.document["does"][0]
    assert work.summary["k2.recovery.reason"] == "test"
    assert "@" in work.summary["k2.recovery.by"]
    work.run_to_end()
    work.check(trades)
    work.balanced()
    assert work.state.epoch == answer.document["epoch"] == 1


@pytest.mark.parametrize(
    ("damage", "says", "source"),
    [
        pytest.param(without(STATE_KEY, SNAPSHOT_KEY), "found none on a table", "the summary of", id="property gone"),
        pytest.param(having(state="{}"), "commit state: found '{}'", "the summary of", id="property garbled"),
        pytest.param(having(state_snapshot="x"), "found 'x'", "the summary of", id="snapshot's name garbled"),
        pytest.param(without(SNAPSHOT_KEY), "found no snapshot for it", "the summary of", id="snapshot's name gone"),
        pytest.param(rolled_back, "rolled back by another tool", "the summary of", id="rolled back"),
        pytest.param(having(pipeline="other"), "found pipeline other", "the table's property", id="another's"),
        pytest.param(without(PIPELINE_KEY), "found pipeline nobody", "the summary of", id="nobody's"),
    ],
)
def test_every_refusal_of_a_table_is_adopted(
    lake: Lake, damage: Callable[[Table], None], says: str, source: str
) -> None:
    lake.commit([10, 11])
    lake.commit([12])
    damage(lake.table)
    with pytest.raises(StateError, match=r"`k2 adopt`") as refused:
        lake.writer.load()
    assert says in str(refused.value)
    answer = k2("adopt", "--dir", lake.folder.root, "--yes", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert source in answer.document["does"][0]
    _, state = lake.writer.load()
    assert state.epoch == 1
    kept = sum(one.next for one in state.topics[TOPIC].partitions.values())
    assert kept == (2 if damage is rolled_back else 3)
    assert k2("audit", "--dir", lake.folder.root).code == 0


def test_a_state_of_a_newer_version_is_not_replaced(lake: Lake) -> None:
    lake.commit([10, 11])
    having(state='{"format":2}')(lake.table)
    answer = k2("adopt", "--dir", lake.folder.root, "--yes")
    assert answer.code == 5
    assert "use a K2 that reads it" in answer.err


@pytest.mark.kafka
def test_a_sink_that_slept_through_an_adoption_drops_its_batch(work: Recovered) -> None:
    work.sink = {"commitIntervalSeconds": 3}
    first, second = make_trades(200, symbols=SYMBOLS, seed=32), make_trades(100, symbols=("LATEUSDT",), seed=33)
    sink = work.start()
    work.produce(first)
    wait_until(lambda: work.committed() == 200, "the first trades")
    work.produce(second)
    wait_until(lambda: sink.metric("k2_sink_records_read_total") == 300, "the second to be read")
    assert work.command("adopt", "--yes").code == 0
    sink.wait_said("the table was recovered: batch dropped")
    wait_until(lambda: work.committed() == 300, "the second trades")
    assert sink.terminate() == 0
    work.check(first + second)
    assert work.state.epoch == 1


def test_without_a_word_nothing_is_written(lake: Lake) -> None:
    lake.commit([10, 11])
    dry = k2("adopt", "--dir", lake.folder.root, "--dry-run")
    assert dry.code == 0
    assert "found  nothing that the sink would refuse" in dry.out
    assert "will   keep all 2 rows" in dry.out
    shown = k2("adopt", "--dir", lake.folder.root, "--dry-run", "--json").document
    assert (shown["dry_run"], shown["snapshot_id"], shown["epoch"]) == (True, None, 1)
    unasked = k2("adopt", "--dir", lake.folder.root)
    assert unasked.code == 2
    assert "expected --yes, or --dry-run" in unasked.err
    assert k2("tables", "--dir", lake.folder.root, "--json").document["tables"][0]["snapshots"] == 1


@pytest.mark.parametrize("answer", [True, False], ids=["yes", "no"])
def test_it_asks(lake: Lake, monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    lake.commit([10, 11])
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)
    told = k2("adopt", "--dir", lake.folder.root)
    assert told.code == (0 if answer else 1)
    assert ("done   snapshot" in told.out) is answer


def test_offsets_that_another_tool_took_the_rows_of_are_unexplained(lake: Lake) -> None:
    lake.commit([10, 11, 12])
    lake.table.delete("sequence = 11")
    assert k2("audit", "--dir", lake.folder.root).code == 1
    adopted = k2("adopt", "--dir", lake.folder.root, "--yes")
    assert "count 1 offsets of market.crypto.trades.binance that have no row as unexplained" in adopted.out
    [partition] = k2("audit", "--dir", lake.folder.root, "--json").document["partitions"]
    assert (partition["unexplained"], partition["rows"], partition["balanced"]) == (1, 2, True)


def test_rows_that_are_there_twice_are_not_adopted(lake: Lake) -> None:
    lake.commit([10, 11, 12])
    lake.table.append(lake.table.scan().to_arrow())
    refused = k2("adopt", "--dir", lake.folder.root, "--yes")
    assert refused.code == 5
    assert "found 3 rows at positions of others" in refused.err
    assert "k2 rollback --to" in refused.err


def test_an_empty_table_needs_no_adoption(lake: Lake) -> None:
    answer = k2("adopt", "--dir", lake.folder.root, "--yes")
    assert answer.code == 5
    assert "the sink begins an empty table by itself" in answer.err


def test_a_folder_without_a_pipeline_is_refused(tmp_path: object) -> None:
    assert k2("adopt", "--dir", tmp_path).code == 3


def test_rows_alone_are_adopted_with_the_folders_own_kafka(lake: Lake) -> None:
    """Nothing runs after a refusal: Kafka is started to ask for its topics, and stopped."""
    lake.commit([10, 11])
    rewritten(lake.table)
    adopted = k2("adopt", "--dir", lake.folder.root, "--yes", "--json")
    assert adopted.code == 0, adopted.err
    assert "the rows' own log positions" in adopted.document["does"][0]
    assert not lake.folder.in_use()
    state = json.loads(lake.table.properties[STATE_KEY])
    assert state["topics"]["market.crypto.trades.binance"]["next"] == {"0": 2}
    assert len(state["cluster_id"]) == 22
