"""Rows as files that no snapshot names yet, and their removal."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k2_core.errors import StorageUnavailableError
from k2_core.health import Heartbeat
from k2_core.records import TRADES
from k2_core.tables import open_catalog
from k2_sink.commit import Owner, TableWriter
from k2_sink.landing import Landing
from k2_sink.metrics import SinkMetrics
from support.lake import lake_settings, table_form
from support.records import make_trades


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    writer = TableWriter(open_catalog(lake_settings(tmp_path)), "market", TRADES, Owner("uid", "cluster"))
    return Landing(writer, 3, SinkMetrics(CollectorRegistry()), Heartbeat())


def written(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def test_rows_become_files_and_files_of_a_dropped_batch_are_removed(landing: Landing, tmp_path: Path) -> None:
    trades = make_trades(50, symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT"), seed=1)
    files = landing.write(table_form(trades), "batch")
    assert sum(file.record_count for file in files) == 50
    assert len(written(tmp_path)) == len(files) > 1
    landing.remove(files, "batch")
    assert written(tmp_path) == []


def test_files_of_a_batch_that_may_have_landed_stay(landing: Landing, tmp_path: Path) -> None:
    files = landing.write(table_form(make_trades(5, seed=2)), "batch")
    landing.writer._unsure.add("batch")
    landing.remove(files, "batch")
    assert len(written(tmp_path)) == len(files)


def test_what_was_begun_is_removed_when_the_warehouse_takes_no_more(landing: Landing, tmp_path: Path) -> None:
    trades = make_trades(60, symbols=tuple(f"S{number}USDT" for number in range(9)), seed=3)
    files = landing.write(table_form(trades), "first")
    landing.remove(files, "first")
    last = Path(files[-1].file_path.removeprefix("file://")).parent
    last.rmdir()
    last.write_text("no folder")
    with pytest.raises(StorageUnavailableError):
        landing.write(table_form(trades), "second")
    assert written(tmp_path) == []
