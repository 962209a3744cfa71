"""`hack/run` on a pipeline file with a symbol that its exchange does not know, and with such symbols alone."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from k2_ingest.exchange.config import ExchangeConfig, SyntheticSource
from k2_ingest.exchange.server import Exchange
from support.ingest import exchange_status, running_exchange
from support.running import Running, nothing_is_left_of

pytestmark = pytest.mark.kafka

EXCHANGE = ExchangeConfig(SyntheticSource(("BTCUSDT", "ETHUSDT"), rate=300), start_clients=0)


def pipeline(folder: Path, exchange: Exchange, *symbols: str) -> Path:
    """A pipeline file of these symbols; the REST server is the one that belongs to the streams."""
    source = {
        "name": "binance",
        "venue": "binance",
        "url": exchange.websocket_url,
        "symbols": [{"name": name} for name in symbols],
        "partitions": 4,
    }
    document = {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": "crypto"},
        "spec": {"ingestion": [source], "sink": {"commitIntervalSeconds": 1}},
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_others_flow_and_the_symbol_is_named_once(start: Callable[..., Running], tmp_path: Path) -> None:
    with running_exchange(EXCHANGE) as exchange:
        url = exchange.rest_url
        running = start("-f", pipeline(tmp_path, exchange, "BTCUSDX", "ETHUSDT"))
        running.until(lambda: "does not know BTCUSDX" in running.said())
        running.until(lambda: running.rows() > 0)
        assert "source: the live exchange at" in running.said()
        assert running.end(signal.SIGINT) == 0
        nothing_is_left_of(running)
        assert "btcusdx@trade" not in exchange_status(exchange)["streams"]
    lines = [line for line in running.said().splitlines() if "BTCUSDX" in line]
    assert lines == [
        f"k2: source binance: the exchange at {url} does not know BTCUSDX; all others flow. "
        "Correct spec.ingestion[0].symbols, or wait: it is asked again"
    ]
    assert "ended with" not in running.said()


def test_of_unknown_symbols_alone_it_waits(start: Callable[..., Running], tmp_path: Path) -> None:
    with running_exchange(EXCHANGE) as exchange:
        running = start("-f", pipeline(tmp_path, exchange, "BTCUSDX", "ETHUSDX"))
        running.until(lambda: "does not know BTCUSDX, ETHUSDX; nothing is received" in running.said())
        assert running.end(signal.SIGINT) == 0
    assert "ended with" not in running.said()
    nothing_is_left_of(running)
