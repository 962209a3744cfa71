"""Tells the user of `k2 up` which symbols an exchange does not know, once for each change. Called by `k2_cli.up`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from k2_cli.output import Say
from k2_cli.scrape import Sample, Scraper

UNKNOWN: Final = "k2_ingest_unknown_symbols"
CHECK: Final = "symbols"
"""Of an ingest's `/health`: names them, and where to correct them."""


class SymbolNotices:
    """What the ingests say of their symbols.

    Args:
        urls: Bases of the services' `/health`, by name.
        say: Tells the user.
    """

    def __init__(self, urls: Mapping[str, str], say: Say) -> None:
        self._urls = urls
        self._say = say
        self._told: dict[str, float] = {}

    def look(self, samples: Mapping[str, Sample | None], scraper: Scraper) -> None:
        """Say what is new.

        Args:
            samples: By process name; None for one that did not answer.
            scraper: Asks an ingest for its words.
        """
        for name, sample in samples.items():
            count = None if sample is None else sample.total(UNKNOWN)
            if count is None or count == self._told.get(name, 0):
                continue
            words = scraper.complaint(self._urls[name], CHECK) if count else f"{name}: the exchange knows all symbols"
            if words is not None:  # otherwise it has changed again since: the next look says how
                self._say(words)
                self._told[name] = count
