"""The last word of `k2 up` goes by what the table holds, and not by what sinks showed before they ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli.ending import ALL_COMMITTED, how_it_stands
from k2_core.state import LedgerEntry
from k2_core.types import Offset, Partition
from k2_sink.protocol import Claim, Span
from support.cli import TOPIC, TOPIC_ID, Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "state")


def test_before_any_table_nothing_is_owed(lake: Lake) -> None:
    assert how_it_stands(lake.folder, 3) == ALL_COMMITTED


def test_what_the_table_owes_is_said_whatever_sinks_showed(lake: Lake) -> None:
    lake.commit([1, 2])
    assert how_it_stands(lake.folder, 3) == ALL_COMMITTED
    start, end = Offset(2), Offset(1502)
    entry = LedgerEntry(TOPIC, Partition(0), start, end, ("BTCUSDT",), 2, "level 2 defers low", 1500)
    span = Span(start, end, deferred=(entry,))
    lake.writer.commit(Claim("cluster", {TOPIC: TOPIC_ID}, {(TOPIC, Partition(0)): span}, "batch"), [])
    assert how_it_stands(lake.folder, 0).startswith(
        "stopped; 1,500 records are owed to the table: what Kafka has is kept"
    )


def test_a_table_that_cannot_be_read_is_not_taken_for_one_that_has_all(lake: Lake) -> None:
    lake.commit([1])
    [database] = lake.folder.root.rglob("catalog.db")
    database.write_bytes(b"no database" * 1000)
    told = how_it_stands(lake.folder, 1500)
    assert told.startswith(
        "stopped; 1,500 records were owed to the table when sinks were last asked, which itself does not"
    )
    assert "catalog:" in told
