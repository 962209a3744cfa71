"""Rows as files that no snapshot names yet, and their removal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter

from k2_core.codec import BatchDecoder
from k2_core.errors import StorageUnavailableError
from k2_core.health import Heartbeat
from k2_core.policy.classes import Priority
from k2_core.raw_files import RawFiles, created_ms
from k2_core.records import TRADES
from k2_core.schemas import PackagedSchemas
from k2_core.tables import open_catalog
from k2_core.types import Level, Offset, Partition, Symbol, TopicId, TopicName
from k2_sink.batch import Batch, Chunk
from k2_sink.commit import Owner, TableWriter
from k2_sink.dedup import SeenIds
from k2_sink.deferral import Deferring, KeyClasses
from k2_sink.landing import RENEW_AFTER_MS, Landing
from k2_sink.metrics import SinkMetrics
from support.lake import lake_settings
from support.records import Record, encode, make_trades

TOPIC = TopicName("t")
WAITING = "LATEUSDT"
NOW_S = 1_700_000_000.0


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    writer = TableWriter(open_catalog(lake_settings(tmp_path)), "market", TRADES, Owner("uid", "cluster"))
    raw = RawFiles(writer.table.io, writer.table.location())
    return Landing(writer, raw, 3, SinkMetrics(CollectorRegistry()), Heartbeat(), lambda: NOW_S)


def batch_of(trades: list[Record], level: Level = Level.AGGRESSIVE) -> Batch:
    """A batch of trades as one partition of the log; those of WAITING wait."""
    batch = Batch(TRADES, SeenIds())
    batch.start_at((TOPIC, Partition(0)), Offset(0))
    offsets = np.arange(len(trades))
    keys = [trade["symbol"].encode() for trade in trades]
    chunk = Chunk(TOPIC, list(map(encode, trades)), np.zeros_like(offsets), offsets, keys, {0: 5}, offsets + 5)
    classes = KeyClasses({Symbol(trade["symbol"]): Priority.CRITICAL for trade in trades if trade["symbol"] != WAITING})
    decoder = BatchDecoder(TRADES, PackagedSchemas().by_id)
    batch.add(chunk, decoder, TopicId("id"), lambda _: batch.table(), Deferring(level, classes, 0))
    return batch


def written(folder: Path) -> list[Path]:
    return sorted([*folder.rglob("*.parquet"), *folder.rglob("trades.raw/*")])


def raw_path(landing: Landing, name: str) -> Path:
    return Path(landing.raw.path(name).removeprefix("file://"))


def value(counter: Counter) -> float:
    [family] = counter.collect()
    return next(one.value for one in family.samples if one.name.endswith("_total"))


def raw_written(folder: Path) -> list[str]:
    return [path.name for path in written(folder) if path.parent.name == "trades.raw"]


def test_rows_become_files_and_files_of_a_dropped_batch_are_removed(landing: Landing, tmp_path: Path) -> None:
    trades = make_trades(50, symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT"), seed=1)
    files = landing.write(batch_of(trades), "batch")
    assert files.raw_file is None
    assert sum(file.record_count for file in files.data) == 50
    assert len(written(tmp_path)) == len(files.data) > 1
    landing.remove(files, "batch")
    assert written(tmp_path) == []
    landing.remove(None, "never written")


def test_what_waits_becomes_a_raw_file_that_goes_with_its_batch(landing: Landing, tmp_path: Path) -> None:
    trades = make_trades(60, symbols=("BTCUSDT", WAITING), seed=2)
    batch = batch_of(trades)
    files = landing.write(batch, "batch")
    waiting = [offset for offset, trade in enumerate(trades) if trade["symbol"] == WAITING]
    assert files.raw_file is not None
    assert raw_written(tmp_path) == [files.raw_file] == [batch.raw_file]
    assert created_ms(files.raw_file) == NOW_S * 1000
    at = (TOPIC, Partition(0))
    assert landing.raw.read(files.raw_file, at).column("offset").to_pylist() == waiting
    [entry] = batch.spans()[at].deferred
    assert (entry.raw_file, entry.records) == (files.raw_file, len(waiting))
    assert sum(file.record_count for file in files.data) == 60 - len(waiting)
    size = raw_path(landing, files.raw_file).stat().st_size
    metrics = landing.metrics
    landing.remove(files, "batch")
    assert written(tmp_path) == []
    assert [value(one) for one in (metrics.raw_written, metrics.raw_written_bytes, metrics.raw_removed)] == [1, size, 1]


def test_at_level_two_the_log_alone_keeps_what_waits(landing: Landing, tmp_path: Path) -> None:
    batch = batch_of(make_trades(9, symbols=(WAITING,), seed=6), Level.GRACEFUL)
    assert landing.write(batch, "batch").raw_file is None
    assert raw_written(tmp_path) == []


def test_an_attempt_again_has_the_same_files_until_the_raw_file_is_old(landing: Landing, tmp_path: Path) -> None:
    batch = batch_of(make_trades(60, symbols=("BTCUSDT", WAITING), seed=4))
    first = landing.write(batch, "batch")
    later = replace(landing, utc_s=lambda: NOW_S + RENEW_AFTER_MS / 1000)
    assert later.write(batch, "batch", first) is first
    much_later = replace(landing, utc_s=lambda: NOW_S + RENEW_AFTER_MS / 1000 + 1)
    second = much_later.write(batch, "batch", first)
    assert second.data == first.data
    assert second.raw_file not in (None, first.raw_file)
    assert batch.raw_file == second.raw_file
    assert len(raw_written(tmp_path)) == 2


def test_files_of_a_batch_that_may_have_landed_stay(landing: Landing, tmp_path: Path) -> None:
    files = landing.write(batch_of(make_trades(9, symbols=("BTCUSDT", WAITING), seed=2)), "batch")
    landing.writer._unsure.add("batch")
    landing.remove(files, "batch")
    assert len(written(tmp_path)) == len(files.data) + 1


def test_what_was_begun_is_removed_when_the_warehouse_takes_no_more(landing: Landing, tmp_path: Path) -> None:
    trades = make_trades(60, symbols=tuple(f"S{number}USDT" for number in range(9)), seed=3)
    files = landing.write(batch_of(trades), "first")
    landing.remove(files, "first")
    last = Path(files.data[-1].file_path.removeprefix("file://")).parent
    last.rmdir()
    last.write_text("no folder")
    with pytest.raises(StorageUnavailableError):
        landing.write(batch_of(trades), "second")
    assert written(tmp_path) == []


def test_rows_go_with_a_raw_file_that_the_warehouse_does_not_take(landing: Landing, tmp_path: Path) -> None:
    batch = batch_of(make_trades(20, symbols=("BTCUSDT", WAITING), seed=5))
    folder = Path(landing.raw.path("x").removeprefix("file://")).parent
    folder.write_text("no folder")
    with pytest.raises(StorageUnavailableError):
        landing.write(batch, "batch")
    assert written(tmp_path) == []
    folder.unlink()
    files = landing.write(batch, "batch")
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder")
    late = replace(landing, utc_s=lambda: NOW_S + 2 * RENEW_AFTER_MS / 1000)
    with pytest.raises(StorageUnavailableError):  # what an earlier attempt may have committed is not removed
        late.write(batch, "batch", files)
    assert len(written(tmp_path)) == len(files.data)
