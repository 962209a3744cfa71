"""What plans are computed from: the measured figures are those of docs/benchmarks.md, and prices are read strictly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from k2_cli.planning.figures import MEASURED_ON, Assumed, Measured, Prices, read_prices
from k2_core.errors import SpecError

BENCHMARKS = Path(__file__).parents[3] / "docs" / "benchmarks.md"
PACKAGED = Path(__file__).parents[3] / "services" / "k2_cli" / "planning" / "prices.toml"


def benchmark(name: str, metric: str) -> float:
    for line in BENCHMARKS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:2] == [name, metric]:
            return float(cells[2].replace(",", ""))
    raise AssertionError(f"no row {name}, {metric}")


@pytest.mark.parametrize(
    ("field", "name", "metric"),
    [
        ("ingest_per_core_s", "ingest", "trades per CPU-second of the process"),
        ("sink_per_core_s", "sink", "throughput per CPU-second"),
        ("sink_process_per_s", "sink", "throughput of one process"),
        ("sink_gib", "sink", "peak memory (RSS)"),
        ("table_bytes", "storage", "bytes a trade, zstd level 3"),
    ],
)
def test_what_is_measured_is_what_the_benchmarks_say(field: str, name: str, metric: str) -> None:
    assert getattr(Measured(), field) == benchmark(name, metric)


def test_a_tail_consumes_and_decodes() -> None:
    text = BENCHMARKS.read_text()
    row = re.search(r"CPU: consume, decode, sort, write, commit, other threads \| ([\d.]+), ([\d.]+),", text)
    assert row is not None
    assert Measured().tail_per_core_s == pytest.approx(1e6 / (float(row[1]) + float(row[2])), rel=0.01)
    assert MEASURED_ON[:10] in text


def test_each_figure_says_what_it_is() -> None:
    assert all(field.description for kind in (Measured, Assumed) for field in kind.model_fields.values())


def test_prices_come_with_a_date_and_a_place() -> None:
    assert re.fullmatch(r"\d{4}-\d{2}", read_prices(None).as_of)
    assert read_prices(PACKAGED) == read_prices(None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vcpu_hour = -1", "vcpu_hour: found -1, expected a price"),
        ('vcpu_hour = "much"', "vcpu_hour: found 'much', expected a price"),
        ("vcpu_hour = nan", "vcpu_hour: found nan, expected a price"),
        ("", "vcpu_hour: found nothing, expected a price"),
        ("vcpu_hour = 1\ncpu_hour = 1", "cpu_hour: found an unknown key, expected one of as_of, region, vcpu_hour"),
        ("vcpu_hour = = 1", "found no TOML"),
    ],
)
def test_a_price_that_is_none_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(re.sub(r"^vcpu_hour = .*$", line, PACKAGED.read_text(), flags=re.MULTILINE))
    with pytest.raises(SpecError, match=re.escape(said)):
        read_prices(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: found No such file or directory, expected a file of prices"):
        read_prices(tmp_path / "none.toml")
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"raw\.toml: found no TOML"):
        read_prices(tmp_path / "raw.toml")
    assert Prices.model_fields.keys() == read_prices(None).model_dump().keys()
