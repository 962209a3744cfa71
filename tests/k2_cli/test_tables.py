"""`k2 tables` on real tables."""

from __future__ import annotations

from pathlib import Path

from k2_core.ledger_history import LEDGER
from k2_core.letters import DLQ, Letter, Place, letter_rows
from k2_core.types import Offset, Partition, TopicId, TopicName
from k2_sink.projection import Tables, write
from support.cli import Lake, k2


def test_figures_are_those_of_the_metadata(lake: Lake) -> None:
    lake.commit([10, 11])
    lake.commit([12])
    answer = k2("tables", "--dir", lake.folder.root, "--json")
    assert answer.code == 0
    [table] = answer.document["tables"]
    files = list(lake.folder.warehouse.rglob("*.parquet"))
    assert table["name"] == "market.trades"
    assert (table["rows"], table["files"], table["partitions"], table["snapshots"]) == (3, 2, 1, 2)
    assert table["bytes"] == sum(path.stat().st_size for path in files)
    assert answer.document["disk_bytes"] > table["bytes"]


def test_for_people(lake: Lake) -> None:
    lake.commit([10])
    answer = k2("tables", "--dir", lake.folder.root)
    assert answer.out.splitlines()[1].split()[:3] == ["market.trades", "1", "1"]
    assert "on disk, Kafka and logs included" in answer.out


def test_what_is_derived_is_shown_beside_the_trades(lake: Lake) -> None:
    lake.commit([10])
    tables = Tables(lake.writer.catalog, "market", lake.pipeline.uid)
    place = Place(TopicName("t.dlq"), TopicId("id"), Partition(0), Offset(0))
    assert write(tables.projection(DLQ), letter_rows([Letter(place, {}, b"bytes", 0)]), {})
    tables.projection(LEDGER)
    found = k2("tables", "--dir", lake.folder.root, "--json").document["tables"]
    assert [(table["name"], table["rows"]) for table in found] == [
        ("market.trades", 1),
        ("market.ledger", 0),
        ("market.dlq", 1),
    ]


def test_no_table_yet(lake: Lake) -> None:
    assert k2("tables", "--dir", lake.folder.root, "--json").document["tables"] == []


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    assert k2("tables", "--dir", tmp_path).code == 3
