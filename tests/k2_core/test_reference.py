"""What a pipeline's file says of its symbols."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from k2_core.reference import Listing, Steps, lots, references, ticks
from k2_core.spec import PipelineSpec
from k2_core.types import Symbol


def spec(*sources: dict[str, Any]) -> PipelineSpec:
    return PipelineSpec.model_validate({"ingestion": list(sources)})


def exchange(name: str, *symbols: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "venue": "binance", "symbols": list(symbols)}


def at(symbol: str) -> Listing:
    return Listing("binance", "spot", Symbol(symbol))


FILES = {"name": "asx", "venue": "asx", "files": [{"name": "a", "path": "a.csv", "symbol": "BHP"}]}


def test_only_what_is_said_is_known() -> None:
    found = references(
        spec(
            exchange(
                "a",
                {"name": "BTCUSDT", "tickSize": "0.01", "stepSize": "0.00001"},
                {"name": "ETHUSDT", "tickSize": "0.10"},
                {"name": "BNBUSDT", "stepSize": "1"},
                {"name": "XRPUSDT"},
            ),
            FILES,
        )
    )
    assert found == {
        at("BTCUSDT"): Steps(Decimal("0.01"), Decimal("0.00001")),
        at("ETHUSDT"): Steps(Decimal("0.1"), None),
        at("BNBUSDT"): Steps(None, Decimal(1)),
    }
    assert ticks(found) == {at("BTCUSDT"): Decimal("0.01"), at("ETHUSDT"): Decimal("0.1")}
    assert lots(found) == {at("BTCUSDT"): Decimal("0.00001"), at("BNBUSDT"): Decimal(1)}
    assert f"{found[at('ETHUSDT')].tick_size:f}" == "0.10"


def test_nothing_said_is_nothing_known() -> None:
    assert references(spec(exchange("a", {"name": "BTCUSDT"}), FILES)) == {}
    assert (ticks({}), lots({})) == ({}, {})


def test_of_several_sources_the_first_that_says_it_is_believed() -> None:
    found = references(
        spec(
            exchange("a", {"name": "BTCUSDT"}),
            exchange("b", {"name": "BTCUSDT", "tickSize": "0.01"}),
            exchange("c", {"name": "BTCUSDT", "tickSize": "0.5", "stepSize": "3"}),
        )
    )
    assert found == {at("BTCUSDT"): Steps(Decimal("0.01"), Decimal(3))}
