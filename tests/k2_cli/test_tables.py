"""`k2 tables` on real tables."""

from __future__ import annotations

from pathlib import Path

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


def test_no_table_yet(lake: Lake) -> None:
    assert k2("tables", "--dir", lake.folder.root, "--json").document["tables"] == []


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    assert k2("tables", "--dir", tmp_path).code == 3
