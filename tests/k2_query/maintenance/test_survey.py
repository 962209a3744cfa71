"""What a real table's metadata says of its days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from k2_core.quality import FINDINGS, QUALITY
from k2_core.records import TRADES
from k2_core.tables import ensure_table, open_catalog
from k2_query.maintenance import survey as surveys
from k2_query.maintenance.statements import Part
from k2_query.maintenance.survey import Figures, of_day, stored, survey
from support.lake import lake_settings, table_form
from support.records import make_trades

DAY = dt.date(2026, 1, 5)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with closing(open_catalog(lake_settings(tmp_path))) as opened:
        yield opened


def files_of(folder: Path, pattern: str = "*") -> list[Path]:
    return [path for path in (folder / "warehouse").rglob(pattern) if path.is_file()]


def size(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def test_a_days_files_are_counted_by_partition(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ensure_table(catalog, "market", TRADES, "uid")
    assert survey(table) == []
    assert of_day(table, DAY) == Figures(0, 0, 0)
    for seed, symbols in enumerate((("BTCUSDT",), ("BTCUSDT",), ("BTCUSDT", "ETHUSDT"), ("ETHUSDT",))):
        table.append(table_form(make_trades(40, symbols=symbols, seed=seed)))
    later = make_trades(10, seed=9, symbols=("BTCUSDT",))
    for record in later:
        record["exchange_timestamp"] += dt.timedelta(days=1)
    table.append(table_form(later))
    data = files_of(tmp_path, "*.parquet")
    first, second = survey(table)
    assert (first.day, first.files, first.spare, first.newest) == (DAY, 5, 3, 4)
    assert (second.day, second.files, second.spare, second.newest) == (DAY + dt.timedelta(days=1), 1, 0, 5)
    assert first.nbytes + second.nbytes == size(data)
    assert of_day(table, DAY) == Figures(5, first.nbytes, 5)
    monkeypatch.setattr(surveys, "SMALL_BYTES", 1)
    assert [part.spare for part in survey(table)] == [0, 0]


def test_a_table_without_days_is_one_part(catalog: Catalog) -> None:
    table = ensure_table(catalog, "market", QUALITY, "uid")
    row = {field.name: "x" if field.type == pa.string() else 0 for field in FINDINGS}
    for _ in range(2):
        table.append(pa.Table.from_pylist([row], FINDINGS))
    [part] = survey(table)
    assert part == Part(None, 2, part.nbytes, 1, 2)


def test_all_that_lies_below_the_location_is_counted(catalog: Catalog, tmp_path: Path) -> None:
    table = ensure_table(catalog, "market", TRADES, "uid")
    table.append(table_form(make_trades(10, seed=1)))
    below = Path(table.location().removeprefix("file://"))
    (below / "data" / "litter").write_bytes(b"12345")
    beside = below.with_name(f"{below.name}.raw")
    beside.mkdir()
    (beside / "x").write_bytes(b"1")
    files = [path for path in below.rglob("*") if path.is_file()]
    assert stored(table) == Figures(len(files), size(files), 1)
