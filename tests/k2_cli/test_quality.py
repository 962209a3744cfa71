"""`k2 quality` on findings that the sink's own checks made."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k2_core.quality import CHECKED_KEY, QUALITY
from k2_core.tables import ensure_table
from k2_core.types import Level
from k2_sink.checking import Checking, Expected
from k2_sink.metrics import SinkMetrics
from k2_sink.projection import Tables, Turns
from support.cli import Lake, k2


def check(lake: Lake, *listed: str) -> None:
    """Look through all that was committed."""
    now = [0.0]
    tables = Tables(lake.writer.catalog, "market", lake.pipeline.uid)
    checking = Checking(tables, Expected(listed, {}), SinkMetrics(CollectorRegistry()), Turns(1, lambda: now[0]))
    now[0] = 1
    checking.step(Level.NORMAL)


def test_what_was_found_is_summed_by_symbol(lake: Lake) -> None:
    for ids in ([10, 11], [12], [13]):
        lake.commit(ids)
        check(lake)
    lake.commit([14])
    answer = k2("quality", "--dir", lake.folder.root, "--json")
    assert answer.code == 0
    at = "2026-01-01T00:00:00Z"
    one = {"symbol": "BTCUSDT", "exchange": "binance", "market": "spot", "finding": "unlisted_symbol", "trades": 4}
    more = {"first": at, "last": at, "example": "binance:spot:BTCUSDT:10", "least_delay_us": 0, "greatest_delay_us": 0}
    assert answer.document == {
        "findings": [one | more],
        "checked_sequence_number": 3,
        "committed_sequence_number": 4,
    }
    assert k2("quality", "--dir", lake.folder.root, "--symbol", "ETHUSDT", "--json").document["findings"] == []


def test_for_people(lake: Lake) -> None:
    lake.commit([10])
    check(lake)
    lines = k2("quality", "--dir", lake.folder.root).out.splitlines()
    assert lines[1].split()[:5] == ["BTCUSDT", "binance", "spot", "unlisted_symbol", "1"]
    assert "0.000000 to 0.000000 s" in lines[1]
    assert lines[-1] == "looked at 1 of 1 commits"
    lake.commit([11])
    last = k2("quality", "--dir", lake.folder.root).out.splitlines()[-1]
    assert last == "looked at 1 of 2 commits; what came since is looked at within a minute at level 0"


@pytest.mark.parametrize("commits", [0, 1])
def test_nobody_has_looked_yet(lake: Lake, commits: int) -> None:
    for number in range(commits):
        lake.commit([number])
    answer = k2("quality", "--dir", lake.folder.root, "--json").document
    assert answer == {"findings": [], "checked_sequence_number": 0, "committed_sequence_number": commits}


def test_garbage_in_the_table_of_findings_is_said(lake: Lake) -> None:
    lake.commit([10])
    with ensure_table(lake.writer.catalog, "market", QUALITY, lake.pipeline.uid).transaction() as transaction:
        transaction.set_properties({CHECKED_KEY: "yes"})
    answer = k2("quality", "--dir", lake.folder.root)
    assert answer.code == 5
    assert "k2.checked: found 'yes', expected format 1" in answer.err


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    assert k2("quality", "--dir", tmp_path).code == 3
