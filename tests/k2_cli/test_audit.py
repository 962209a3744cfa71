"""`k2 audit` on real tables."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_cli.audit import _document, _print, _ranges
from k2_cli.completeness import Books, PartitionAccount, SymbolDay
from k2_core.raw_files import RawFiles, Section, raw_rows
from k2_core.state import CommitState, LedgerEntry, Loss, PartitionState
from k2_core.types import Offset, Partition
from support.cli import TOPIC, TOPIC_ID, Lake, k2


def test_a_complete_table_is_proven_so(lake: Lake) -> None:
    lake.commit([10, 11])
    lake.commit([12, 13, 14])
    answer = k2("audit", "--dir", lake.folder.root, "--json")
    assert answer.code == 0
    document = answer.document
    assert document["complete"] is True
    assert document["rows"] == 5
    assert document["open_ledger"] == []
    assert document["symbols"] == [
        {
            "exchange": "binance",
            "market": "spot",
            "symbol": "BTCUSDT",
            "day": "2026-01-01",
            "first": 10,
            "last": 14,
            "expected": 5,
            "stored": 5,
            "missing": 0,
            "missing_ranges": [],
            "duplicates": 0,
        }
    ]
    [partition] = document["partitions"]
    assert (partition["topic"], partition["next"], partition["rows"], partition["balanced"]) == (TOPIC, 5, 5, True)
    text = k2("audit", "--dir", lake.folder.root)
    assert text.code == 0
    assert "1 of 1 partitions balance" in text.out
    assert "complete: every id and every position is there exactly once" in text.out


@pytest.mark.parametrize(
    ("ids", "skipped", "found"),
    [
        pytest.param([10, 11, 15], 0, "12-14", id="missing ids"),
        pytest.param([10, 11, 11], 0, "NOT complete", id="an id twice"),
        pytest.param([10, 11], 1, "does not balance", id="a lost record"),
    ],
)
def test_what_is_wrong_is_shown_and_exits_1(lake: Lake, ids: list[int], skipped: int, found: str) -> None:
    lake.commit(ids, skipped=skipped)
    answer = k2("audit", "--dir", lake.folder.root)
    assert answer.code == 1
    assert found in answer.out
    assert answer.out.rstrip().endswith("NOT complete")
    assert k2("audit", "--dir", lake.folder.root, "--json").document["complete"] is False


def test_a_pipeline_that_has_committed_nothing_yet_lacks_nothing(lake: Lake) -> None:
    answer = k2("audit", "--dir", lake.folder.root, "--json")
    assert answer.code == 0
    assert answer.document["snapshot_id"] is None


def test_a_folder_without_a_pipeline_is_refused(tmp_path: object) -> None:
    answer = k2("audit", "--dir", tmp_path)
    assert (answer.code, answer.out) == (3, "")
    assert "expected a folder that `k2 up --dir` has used" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("pattern", ["*.parquet", "*-m0.avro"], ids=["data file", "manifest"])
def test_a_file_that_is_gone_is_exit_4(lake: Lake, pattern: str) -> None:
    lake.commit([10, 11])
    for path in lake.folder.warehouse.rglob(pattern):
        path.unlink()
    answer = k2("audit", "--dir", lake.folder.root)
    assert (answer.code, answer.out) == (4, "")
    assert "warehouse: found" in answer.err
    assert answer.err.count("\n") == 1


def test_what_is_owed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    entry = LedgerEntry(TOPIC, Partition(3), Offset(2), Offset(6), ("BNBUSDT",), 2, "level 2 defers low", 4)
    stands = PartitionState(Offset(6))
    account = Books((PartitionAccount(TOPIC, TOPIC_ID, Partition(3), stands, 2, 4, 0, 0),), foreign_rows=7)
    losses = (
        Loss(TOPIC, TOPIC_ID, Partition(3), Offset(0), Offset(2), "retention"),
        Loss(TOPIC, TOPIC_ID, Partition(4), Offset(9), None, "deleted"),
    )
    state = CommitState("cluster", open_ledger=(entry,), losses=losses)
    _print([], account, state, complete=False)
    text = capsys.readouterr().out
    records = "4 records of BNBUSDT since 1970-01-01T00:00:00+00:00"
    assert f"owed: {TOPIC}[3] offsets 2 to 6, {records}: level 2 defers low" in text
    assert "NOT complete: 4 records are owed" in text
    assert "7 rows come from topics that the commit state does not know" in text
    assert f"lost: {TOPIC}[3] offsets 0 to 2: retention" in text
    assert f"lost: {TOPIC}[4] offsets 9 to an end that nobody knows: deleted" in text
    document: dict[str, Any] = _document([], account, state)
    assert document["partitions"][0]["topic_id"] == TOPIC_ID
    assert [(loss["partition"], loss["from"], loss["to"]) for loss in document["losses"]] == [(3, 0, 2), (4, 9, None)]
    assert document["open_ledger"] == [
        {
            "topic": TOPIC,
            "partition": 3,
            "from": 2,
            "to": 6,
            "symbols": ["BNBUSDT"],
            "level": 2,
            "reason": "level 2 defers low",
            "records": 4,
            "since_ms": 0,
            "oldest_ms": 0,
        }
    ]


def test_the_raw_file_of_what_is_owed_is_named_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = RawFiles(PyArrowFileIO(), f"file://{tmp_path}/trades")
    rows = raw_rows(partition=[3] * 4, offset=range(2, 6), timestamp_ms=[0] * 4, key=[b"BNBUSDT"] * 4, value=[b"v"] * 4)
    section = Section(TOPIC, Partition(3), Offset(2), Offset(6), 4)
    name = files.write({TOPIC: rows}, [section], 1_764_088_369_000).name
    at = (TOPIC, Partition(3), Offset(2), Offset(6))
    entry = LedgerEntry(*at, ("BNBUSDT",), 3, "level 3 defers low", 4, raw_file=name)
    state = CommitState("cluster", open_ledger=(entry,))

    def told() -> tuple[dict[str, Any], str]:
        _print([], Books((), 0), state, files, complete=False)
        document: dict[str, Any] = _document([], Books((), 0), state, files)
        return document["open_ledger"][0], capsys.readouterr().out

    document, text = told()
    assert (document["raw_file"], document["raw_problem"]) == (files.path(name), None)
    assert f"level 3 defers low, kept in raw file {files.path(name)}\n" in text
    assert "while the log" not in text
    Path(files.path(name).removeprefix("file://")).write_bytes(b"damaged")
    document, text = told()
    assert "found it damaged" in document["raw_problem"]
    assert f"while the log has the range it is read there: {document['raw_problem']}\n" in text


def test_many_ranges_are_cut_short_for_people() -> None:
    ranges = ((1, 1), (3, 4), (6, 6), (8, 9), (11, 11))
    day = SymbolDay("binance", "spot", "BTCUSDT", date(2026, 1, 1), 0, 12, 6, ranges, 0)
    assert _ranges(day) == "1, 3-4, 6 and 2 more"
