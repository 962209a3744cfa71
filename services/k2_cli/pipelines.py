"""Which pipeline `k2 up` runs: the user's file, widened by what a capture holds, written down for the services.

Called by `k2 up`. Pure but for reading the user's file and writing the services' one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml

from k2_core.errors import SetupError, SpecError
from k2_core.spec import API_VERSION, KIND, IngestionSpec, Pipeline, load_pipeline, parse_pipeline
from k2_core.storage import is_s3

DEFAULT_NAME: Final = "crypto"
"""Of the pipeline that a capture without a file makes; that of manifests/pipeline.yaml, so that both share a folder."""


def resolve(file: Path | None, captured_symbols: Iterable[str] = ()) -> Pipeline:
    """Return the pipeline to run.

    Args:
        file: The user's, or None.
        captured_symbols: Symbols of the captures to replay: the pipeline takes them all, whatever the file lists.

    Raises:
        SpecError: The file is wrong, or there is neither a file nor a capture.
    """
    symbols = list(captured_symbols)
    if file is None and not symbols:
        raise SpecError("-f", "nothing", "a pipeline file, such as manifests/pipeline.yaml")
    if file is None:
        return parse_pipeline(_document(symbols))
    pipeline = with_paths_from(load_pipeline(file), file.absolute().parent)
    return widened(pipeline, symbols) if symbols else pipeline


def exchanges(pipeline: Pipeline) -> list[IngestionSpec]:
    """Return the sources that are exchanges and no files."""
    return [source for source in pipeline.spec.ingestion if not source.reads_files]


def with_paths_from(pipeline: Pipeline, folder: Path) -> Pipeline:
    """Return the pipeline with the paths of its files as they are seen from a folder, where they are not absolute."""
    document = pipeline.model_dump(mode="json", by_alias=True, exclude_none=True)
    files = [file for source in document["spec"]["ingestion"] for file in source.get("files", ())]
    for file in files:
        if not is_s3(file["path"]):
            file["path"] = str(folder / file["path"])
    return parse_pipeline(document) if files else pipeline


def widened(pipeline: Pipeline, symbols: Iterable[str]) -> Pipeline:
    """Return the pipeline with those symbols added to its first exchange that no exchange lists.

    Raises:
        SpecError: It has no exchange.
    """
    listed = {symbol for source in exchanges(pipeline) for symbol in source.symbol_names}
    missing = [{"name": symbol} for symbol in symbols if symbol not in listed]
    if not missing:
        return pipeline
    document = pipeline.model_dump(mode="json", by_alias=True, exclude_none=True)
    sources = [source for source in document["spec"]["ingestion"] if "symbols" in source]
    if not sources:
        raise SpecError("--capture", "a pipeline of files alone", "one with an exchange, or no capture")
    sources[0]["symbols"] += missing
    return parse_pipeline(document)


def require_same(file: Path, pipeline: Pipeline) -> None:
    """Refuse a folder that another pipeline has used: its tables are not this one's to write to.

    Args:
        file: What `write` wrote there before, if anything.
        pipeline: The one that wants to run.

    Raises:
        SetupError: It is another one's.
    """
    if file.exists() and (found := load_pipeline(file).uid) != pipeline.uid:
        raise SetupError(
            f"{file.parent}: found the state of pipeline {found}, expected that of {pipeline.uid}; use another --dir"
        )


def write(pipeline: Pipeline, path: Path) -> None:
    """Write a pipeline as the file that services read; they never see half of it."""
    document = pipeline.model_dump(mode="json", by_alias=True, exclude_none=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(document, sort_keys=False))
    temporary.replace(path)


def _document(symbols: list[str]) -> dict[str, object]:
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": symbol} for symbol in symbols]}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": DEFAULT_NAME},
        "spec": {"ingestion": [source]},
    }
