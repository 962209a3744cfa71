"""k2_cli.pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_cli import pipelines
from k2_core.errors import SetupError, SpecError
from k2_core.spec import load_pipeline, parse_pipeline

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "manifests" / "pipeline.yaml"


def test_the_example_runs_on_a_laptop_and_has_a_symbol_of_each_priority() -> None:
    pipeline = pipelines.resolve(EXAMPLE)
    assert pipeline.spec.kafka is None
    assert pipeline.spec.storage is None
    [source] = pipeline.spec.ingestion
    assert {symbol.name: symbol.priority for symbol in source.classed_symbols} == {
        "BTCUSDT": "critical",
        "ETHUSDT": "normal",
        "BNBUSDT": "low",
    }


def test_a_capture_alone_makes_a_pipeline_that_shares_the_examples_tables() -> None:
    pipeline = pipelines.resolve(None, ["SOLUSDT", "BTCUSDT"])
    assert pipeline.spec.ingestion[0].symbol_names == ("SOLUSDT", "BTCUSDT")
    example = pipelines.resolve(EXAMPLE)
    assert (pipeline.uid, pipeline.spec.namespace) == (example.uid, example.spec.namespace)
    assert pipeline.trades_topics() == example.trades_topics()


def test_neither_a_file_nor_a_capture_is_refused() -> None:
    with pytest.raises(SpecError, match="-f: found nothing, expected a pipeline file"):
        pipelines.resolve(None)


def test_captured_symbols_join_those_of_the_file() -> None:
    pipeline = pipelines.resolve(EXAMPLE, ["ETHUSDT", "SOLUSDT"])
    symbols = {symbol.name: symbol.priority for symbol in pipeline.spec.ingestion[0].classed_symbols}
    assert symbols == {"BTCUSDT": "critical", "ETHUSDT": "normal", "BNBUSDT": "low", "SOLUSDT": "normal"}
    assert pipelines.resolve(EXAMPLE, ["ETHUSDT"]) == pipelines.resolve(EXAMPLE)


FILES = """
apiVersion: k2.dev/v1alpha1
kind: K2Pipeline
metadata: {name: both}
spec:
  ingestion:
    - name: asx
      venue: asx
      files:
        - {name: a, path: ticks/a.csv, symbol: BHP}
        - {name: b, path: /ticks/b.csv, symbol: BHP}
        - {name: c, path: 's3://ticks/c.csv', symbol: BHP}
"""
EXCHANGE = "    - {name: binance, venue: binance, symbols: [{name: BTCUSDT}]}\n"


def test_paths_of_files_are_seen_from_the_pipelines_file(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(FILES)
    [source] = pipelines.resolve(tmp_path / "pipeline.yaml").spec.ingestion
    paths = [file.path for file in source.files or ()]
    assert paths == [f"{tmp_path}/ticks/a.csv", "/ticks/b.csv", "s3://ticks/c.csv"]


def test_captures_go_to_an_exchange(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(FILES + EXCHANGE)
    pipeline = pipelines.resolve(file, ["BHP", "SOLUSDT"])
    assert [source.symbol_names for source in pipeline.spec.ingestion] == [("BHP",), ("BTCUSDT", "BHP", "SOLUSDT")]
    assert [source.name for source in pipelines.exchanges(pipeline)] == ["binance"]
    file.write_text(FILES)
    with pytest.raises(SpecError, match="--capture: found a pipeline of files alone, expected one with an exchange"):
        pipelines.resolve(file, ["SOLUSDT"])


def test_what_is_written_reads_as_the_same(tmp_path: Path) -> None:
    pipeline = pipelines.resolve(EXAMPLE, ["SOLUSDT"])
    pipelines.write(pipeline, tmp_path / "pipeline.yaml")
    assert load_pipeline(tmp_path / "pipeline.yaml") == pipeline
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]


def test_a_folder_of_another_pipeline_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    example = pipelines.resolve(EXAMPLE)
    pipelines.require_same(file, example)  # a new folder
    pipelines.write(example, file)
    pipelines.require_same(file, pipelines.resolve(None, ["SOLUSDT"]))  # the same name with other symbols
    document = example.model_dump(mode="json", by_alias=True, exclude_none=True)
    document["metadata"]["name"] = "other"
    with pytest.raises(SetupError, match=r"found the state of pipeline local/default/crypto, expected .*/other; use"):
        pipelines.require_same(file, parse_pipeline(document))
