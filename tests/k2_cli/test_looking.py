"""The look at the network, at the real exchange."""

from __future__ import annotations

import pytest

from k2_cli import source
from k2_cli.looking import look, problem_of
from k2_cli.source import FILES_ALONE, Asked, Kind
from k2_core.errors import SetupError
from k2_core.spec import IngestionSpec
from k2_ingest.exchange.config import ExchangeConfig, SyntheticSource
from support.ingest import running_exchange

EXCHANGE = ExchangeConfig(SyntheticSource(("BTCUSDT", "ETHUSDT"), rate=200), start_clients=0)


def listening(url: str, *symbols: str) -> IngestionSpec:
    names = [{"name": name} for name in symbols]
    return IngestionSpec.model_validate({"name": "a", "venue": "binance", "url": url, "symbols": names})


def test_where_nothing_is_to_be_looked_at() -> None:
    assert look(Asked(), None, ".k2", ()).result() is FILES_ALONE
    one = listening("ws://127.0.0.1:9", "BTCUSDT")
    assert look(Asked(synthetic=True), None, ".k2", [one]).result().kind is Kind.SYNTHETIC
    with pytest.raises(SetupError, match="holds live trades"):
        look(Asked(synthetic=True), "live", ".k2", [one])


def test_who_is_away_has_a_problem() -> None:
    one = listening("ws://127.0.0.1:9", "BTCUSDT")
    assert problem_of(one) == "127.0.0.1:9 refused the connection"
    choice = look(Asked(), None, ".k2", [one]).result(30)
    assert (choice.kind, choice.reason) == (Kind.SYNTHETIC, "127.0.0.1:9 refused the connection")


@pytest.mark.parametrize(
    ("symbols", "timeout_s"),
    [
        pytest.param(("BTCUSDX", "ETHUSDT"), 30.0, id="the first symbol is unknown"),
        pytest.param(("BTCUSDX", "ETHUSDX"), 0.5, id="all are, and it is silent"),
    ],
)
def test_an_exchange_answers_whatever_it_is_asked_for(
    symbols: tuple[str, ...], timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.probe, "__defaults__", (timeout_s, None))
    with running_exchange(EXCHANGE) as exchange:
        choice = look(Asked(), None, ".k2", [listening(exchange.websocket_url, *symbols)]).result(60)
    assert (choice.kind, choice.reason) == (Kind.LIVE, "it answers")


def test_one_that_knows_a_symbol_and_stays_silent_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.probe, "__defaults__", (0.5, None))
    silent = ExchangeConfig(SyntheticSource(("BTCUSDT",)), start_clients=9)
    with running_exchange(silent) as exchange:
        assert "no answer from" in (problem_of(listening(exchange.websocket_url, "BTCUSDT", "BTCUSDX")) or "")
