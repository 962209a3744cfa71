"""k2_cli.symbol_notices against a real health server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from k2_cli.scrape import Sample, Scraper
from k2_cli.symbol_notices import UNKNOWN, SymbolNotices
from k2_core.health import HealthServer


def counting(unknown: float | None) -> Sample:
    return Sample({} if unknown is None else {(UNKNOWN, ()): unknown})


def test_each_change_is_said_once() -> None:
    said, wrong = list[str](), list[str | None]([None])
    with HealthServer("127.0.0.1", 0, CollectorRegistry(), {"symbols": lambda: wrong[-1]}) as server:
        scraper = Scraper()
        notices = SymbolNotices(
            {"ingest-a": f"http://127.0.0.1:{server.port}", "sink-0": "http://127.0.0.1:9"}, said.append
        )

        def look(unknown: float | None) -> list[str]:
            notices.look({"ingest-a": counting(unknown), "sink-0": counting(None), "query": None}, scraper)
            return said

        assert look(None) == []
        assert look(0) == []
        wrong.append("the exchange does not know X")
        assert look(1) == look(1) == ["the exchange does not know X"]
        wrong.append("the exchange does not know X, Y")
        assert look(2)[1:] == look(2)[1:] == ["the exchange does not know X, Y"]
        wrong.append(None)
        assert look(1)[2:] == []  # known by now: the figure was read a moment before
        assert look(0)[2:] == look(0)[2:] == ["ingest-a: the exchange knows all symbols"]
        scraper.close()
