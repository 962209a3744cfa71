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
    assert {symbol.name: symbol.priority for symbol in source.symbols} == {
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
    symbols = {symbol.name: symbol.priority for symbol in pipeline.spec.ingestion[0].symbols}
    assert symbols == {"BTCUSDT": "critical", "ETHUSDT": "normal", "BNBUSDT": "low", "SOLUSDT": "normal"}
    assert pipelines.resolve(EXAMPLE, ["ETHUSDT"]) == pipelines.resolve(EXAMPLE)


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
