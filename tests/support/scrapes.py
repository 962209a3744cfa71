"""Scrapes of all sinks of a running pipeline, again and again, and whether the books balance in each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

EVERY_S: Final = 0.2


@dataclass
class Scrapes:
    """What was seen.

    Args:
        balanced: Scrapes in which both sides were there, and the same.
        unbalanced: The others in which both were there: what was passed, and what became of it by account.
        accounts: Those that were ever above 0.
        levels: On which the sinks acted in those in which both were there.
    """

    balanced: int = 0
    unbalanced: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)
    levels: set[int] = field(default_factory=set)

    def take(self, text: str) -> None:
        """Take one scrape in."""
        passed: float | None = None
        became: dict[str, float] = {}
        levels: set[int] = set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "k2_sink_books_passed_offsets":
                    passed = sample.value
                elif sample.name == "k2_sink_books_offsets":
                    became[sample.labels["account"]] = sample.value
                elif sample.name == "k2_degradation_level":
                    levels.add(int(sample.value))
        if passed is None:
            return
        self.levels |= levels
        self.accounts |= {name for name, number in became.items() if number}
        if sum(became.values()) == passed:
            self.balanced += 1
        else:
            self.unbalanced.append((passed, became))


@contextmanager
def scraping(urls: Callable[[], Mapping[str, str]]) -> Iterator[Scrapes]:
    """Scrape whoever there is, for as long as the block lasts.

    Args:
        urls: Asked each time: where the metrics of each sink are. Who does not answer is passed over.
    """
    over, scrapes = threading.Event(), Scrapes()

    def run() -> None:
        # Not from the environment, which the test's own thread may change while this one reads it.
        with httpx.Client(timeout=5, trust_env=False) as client:
            while not over.wait(EVERY_S):
                for url in urls().values():
                    try:
                        answer = client.get(f"{url}/metrics")
                    except httpx.HTTPError:
                        continue
                    scrapes.take(answer.text)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield scrapes
    finally:
        over.set()
        thread.join()
