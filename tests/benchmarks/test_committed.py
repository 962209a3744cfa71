"""What benchmarks check of a table: each id once, and when each record was committed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest
from committed import check_ids, check_table, commits_of, committed_s
from workload import SYMBOLS, expected_ids, trades

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import SetupError
from support.lake import trades_table
from support.records import make_trades
from support.sink import SinkWorkspace

EXPECTED = {"A": range(1, 4), "B": range(7, 9)}
WHOLE = [("A", 2), ("B", 7), ("A", 1), ("A", 3), ("B", 8)]


def rows(pairs: list[tuple[str, int]]) -> pa.Table:
    return pa.table({"symbol": [symbol for symbol, _ in pairs], "trade_id": [str(number) for _, number in pairs]})


def test_each_id_once_in_any_order_passes() -> None:
    check_ids(rows(WHOLE), EXPECTED)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (WHOLE[1:], "A: found 2 rows with 2 ids, 1 of the expected ones missing; expected the ids 1 to 3, each once"),
        ([*WHOLE, ("B", 7)], "B: found 3 rows with 2 ids, 0 of the expected ones missing"),
        ([*WHOLE[1:], ("A", 1)], "A: found 3 rows with 2 ids, 1 of the expected ones missing"),
        ([*WHOLE[1:], ("A", 4)], "A: found 3 rows with 3 ids, 1 of the expected ones missing"),
        ([*WHOLE, ("C", 1)], r"the symbols \['A', 'B', 'C'\], expected \['A', 'B'\]"),
        (WHOLE[:1], r"the symbols \['A'\], expected \['A', 'B'\]"),
    ],
)
def test_what_is_missing_doubled_or_strange_is_told(pairs: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        check_ids(rows(pairs), EXPECTED)


def test_a_table_that_is_not_there_is_told() -> None:
    with pytest.raises(SetupError, match="found no table"):
        check_table(None, EXPECTED)


def test_the_ids_expected_of_the_made_market_are_those_it_makes() -> None:
    wanted = expected_ids(1_000)
    made: defaultdict[str, int] = defaultdict(int)
    for name, _ in trades(1_000):
        made[name] += 1
    assert {name: len(ids) for name, ids in wanted.items()} == made
    assert wanted.keys() == set(SYMBOLS)


@pytest.mark.kafka
def test_a_record_is_committed_when_the_first_commit_behind_it_was(kafka: LocalKafka, tmp_path: Path) -> None:
    work = SinkWorkspace(kafka.bootstrap_servers, tmp_path)
    trades_made = make_trades(300)
    parts = (trades_made[:100], trades_made[100:])
    try:
        for part in parts:
            work.produce(part)
            work.run_to_end()
    finally:
        work.close()
    table = trades_table(work.settings, work.namespace)
    assert table is not None
    commits = commits_of(table, work.topic)
    (first_s, _), (second_s, _) = commits
    found = table.scan().to_arrow()
    where = (found.column(name).to_numpy() for name in ("kafka_partition", "kafka_offset"))
    at_s = dict(zip(found.column("message_id").to_pylist(), committed_s(commits, *where).tolist(), strict=True))
    assert at_s == {
        trade["message_id"]: taken_s for part, taken_s in zip(parts, (first_s, second_s), strict=True) for trade in part
    }
    assert first_s < second_s
