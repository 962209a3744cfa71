"""Sources: what an exchange and files have in common, and what only one of them has."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import ValidationError

from k2_core.policy.classes import Priority
from k2_core.policy.configured import priorities
from k2_core.spec import parse_pipeline, pipeline_faults
from k2_core.spec_ingestion import IngestionSpec

SOURCE: Final[dict[str, Any]] = {"name": "a", "venue": "binance", "symbols": [{"name": "B"}, {"name": "A"}]}
FILES: Final[dict[str, Any]] = {
    "name": "asx",
    "venue": "asx",
    "files": [
        {"name": "bhp-10", "path": "s3://ticks/asx/7078.csv", "symbol": "BHP", "priority": "low"},
        {"name": "dvn-10", "path": "asx/7181.csv", "symbol": "DVN"},
        {"name": "bhp-11", "path": "/ticks/7078 old.csv", "symbol": "BHP"},
    ],
}


def document(*sources: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "a"},
        "spec": {"ingestion": list(sources)},
    }


def test_symbols_keep_their_order() -> None:
    assert IngestionSpec.model_validate(SOURCE).symbol_names == ("B", "A")


@pytest.mark.parametrize("field", ["symbols", "files"])
def test_each_stands_once(field: str) -> None:
    source = SOURCE if field == "symbols" else FILES
    with pytest.raises(ValidationError, match=rf"a second time, expected each {field.removesuffix('s')} once"):
        IngestionSpec.model_validate(source | {field: [*source[field], source[field][0]]})


def test_defaults_of_the_thresholds() -> None:
    source = IngestionSpec.model_validate(SOURCE)
    assert (source.gap_threshold_ids, source.silence_threshold_seconds, source.resources) == (1, 60, None)


def test_what_an_exchange_does_not_say() -> None:
    source = IngestionSpec.model_validate(SOURCE)
    assert (source.reads_files, source.traded, source.exchange_market, source.topic_partitions) == (
        False,
        "crypto",
        "spot",
        50,
    )
    assert (source.stream_url, source.rest_server) == ("wss://stream.binance.com:9443", "https://api.binance.com")


def test_what_an_exchange_says() -> None:
    more = {"market": "spot", "assetClass": "crypto", "url": "ws://a", "restUrl": "http://b", "partitions": 4}
    source = IngestionSpec.model_validate(SOURCE | more)
    assert (source.stream_url, source.rest_server, source.topic_partitions) == ("ws://a", "http://b", 4)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://stream.binance.com:443", "https://api.binance.com"),
        ("wss://data-stream.binance.vision", "https://data-api.binance.vision"),
        ("ws://127.0.0.1:9443", "http://127.0.0.1:9443"),
        ("wss://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_the_rest_server_is_the_one_that_belongs_to_the_streams(url: str, expected: str) -> None:
    assert IngestionSpec.model_validate(SOURCE | {"url": url}).rest_server == expected


def test_files_name_their_symbols_and_datasets() -> None:
    source = IngestionSpec.model_validate(FILES)
    assert source.symbol_names == ("BHP", "DVN")
    assert [source.dataset(file) for file in source.files or ()] == ["asx.bhp-10", "asx.dvn-10", "asx.bhp-11"]
    assert (source.reads_files, source.traded, source.topic_partitions) == (True, "equities", 30)


def test_the_class_of_a_symbol_is_the_highest_of_its_files() -> None:
    assert priorities(parse_pipeline(document(FILES)).spec) == {"BHP": Priority.NORMAL, "DVN": Priority.NORMAL}
    only = FILES | {"files": FILES["files"][:1]}
    assert priorities(parse_pipeline(document(only)).spec) == {"BHP": Priority.LOW}


def test_topics_of_both_kinds() -> None:
    topics = parse_pipeline(document(SOURCE, FILES | {"partitions": 4})).trades_topics()
    assert topics == {"market.crypto.trades.binance": 50, "market.equities.trades.asx": 4}


@pytest.mark.parametrize(
    ("source", "more", "line"),
    [
        pytest.param(SOURCE, {"symbols": None}, "symbols: found nothing, expected what to ingest", id="no symbols"),
        pytest.param(
            SOURCE,
            {"files": FILES["files"]},
            "files: found 3 of venue binance, expected none: only venue asx has files",
            id="files of an exchange",
        ),
        pytest.param(SOURCE, {"assetClass": "equities"}, "assetClass: found equities, expected crypto", id="equities"),
        pytest.param(FILES, {"files": None}, "files: found nothing, expected the files of venue asx", id="no files"),
        pytest.param(FILES, {"assetClass": "crypto"}, "assetClass: found crypto, expected equities", id="crypto"),
        *(
            pytest.param(FILES, {field: value}, f"{field}: found {found}, expected nothing: venue asx is", id=field)
            for field, value, found in (
                ("market", "spot", "spot"),
                ("url", "wss://a", "wss://a"),
                ("restUrl", "http://a", "http://a"),
                ("symbols", [{"name": "BHP"}], "some"),
            )
        ),
    ],
)
def test_what_does_not_fit_the_venue(source: dict[str, Any], more: dict[str, Any], line: str) -> None:
    (fault,) = pipeline_faults(document(source | more))
    assert str(fault).startswith(f"spec.ingestion[0].{line}")


@pytest.mark.parametrize(
    "path", ["s3://ticks", "http://a/b.csv", "s3://ticks/", "a//b", "file:///a", "s3://Ticks/a", "a*.csv", ""]
)
def test_what_is_no_path(path: str) -> None:
    (fault,) = pipeline_faults(document(FILES | {"files": [FILES["files"][0] | {"path": path}]}))
    assert fault.path == "spec.ingestion[0].files[0].path"
