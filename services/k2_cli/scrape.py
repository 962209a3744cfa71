"""Figures of running services, read from their `/metrics`.

Called by the live view, `k2 up --once` and `k2 status`. A service that does not answer gives None, never zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 1.0

Buckets = list[tuple[float, float]]
"""A histogram: upper bounds, ascending, each with how many observations were at most that."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one service: values by name and labels (sorted pairs)."""

    values: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]

    def total(self, name: str) -> float | None:
        """Return the sum over all labels, or None if there is no such series."""
        found = [value for (series, _), value in self.values.items() if series == name]
        return sum(found) if found else None

    def value(self, name: str, labels: Mapping[str, str]) -> float | None:
        """Return the value of one series, or None if there is none."""
        return self.values.get((name, tuple(sorted(labels.items()))))

    def buckets(self, name: str) -> Buckets:
        """Return a histogram's cumulative counts by upper bound, ascending, summed over other labels."""
        counts: dict[float, float] = {}
        for (series, labels), value in self.values.items():
            if series == f"{name}_bucket":
                bound = float(dict(labels)["le"])
                counts[bound] = counts.get(bound, 0.0) + value
        return sorted(counts.items())


def parse(text: str) -> Sample:
    """Return the reading in a text of Prometheus' format."""
    return Sample(
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


class Scraper:
    """Reads services over kept connections; one thread drives it."""

    def __init__(self) -> None:
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    def read(self, base_url: str) -> Sample | None:
        """Return a service's figures now, or None if it does not answer."""
        try:
            answer = self._client.get(f"{base_url}/metrics")
        except httpx.HTTPError:
            return None
        return parse(answer.text) if answer.is_success else None

    def healthy(self, base_url: str) -> str | None:
        """Return None if a service says that it is well, else what it says."""
        return self._says(base_url, "/health")

    def ready(self, base_url: str) -> str | None:
        """Return None if a service says that it can do its work now, else what it says."""
        return self._says(base_url, "/readyz")

    def _says(self, base_url: str, path: str) -> str | None:
        try:
            answer = self._client.get(base_url + path)
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__})"
        return None if answer.is_success else answer.text.strip()[:300]

    def complaint(self, base_url: str, check: str) -> str | None:
        """Return what one of a service's checks says is wrong; None if it is content, or there is no such answer."""
        try:
            found = self._client.get(f"{base_url}/health").json()["checks"].get(check, "ok")
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        return None if found == "ok" else str(found)

    def live(self, base_url: str) -> bool | None:
        """Return whether a service makes progress; False if only a restart helps, None if it does not answer."""
        try:
            return self._client.get(f"{base_url}/livez").is_success
        except httpx.HTTPError:
            return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def quantile(buckets: Buckets, share: float) -> float | None:
    """Return the value below which a share of a histogram's observations lies, or None without any.

    Interpolates within the bucket, as Prometheus' `histogram_quantile` does; in the last one, which has no end, it
    returns that one's start.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    low, before = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - before) / (count - before)
        low, before = bound, count
    return low


def since(before: Buckets, after: Buckets) -> Buckets:
    """Return the histogram of what was observed between two readings of one process."""
    counts = dict(before)
    return [(bound, count - counts.get(bound, 0.0)) for bound, count in after]
