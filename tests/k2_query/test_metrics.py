from __future__ import annotations

from itertools import pairwise

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from k2_query.metrics import FRESHNESS_BUCKETS_S, BatchHistogram


def test_a_batch_counts_as_its_values_one_by_one() -> None:
    values = np.concatenate((np.random.default_rng(5).exponential(0.05, 500), [0.0, 0.001, 56.0, 1e6]))
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch = BatchHistogram("k2_x_seconds", "x", FRESHNESS_BUCKETS_S, ours)
    single = Histogram("k2_x_seconds", "x", buckets=FRESHNESS_BUCKETS_S, registry=theirs)
    for part in np.array_split(values, 7):
        batch.observe(part)
        for value in part:
            single.observe(value)

    def buckets(registry: CollectorRegistry) -> dict[float, float]:
        lines = generate_latest(registry).decode().splitlines()
        found = [line for line in lines if line.startswith("k2_x_seconds_bucket")]
        return {float(line.split('"')[1]): float(line.split()[-1]) for line in found}

    ours_found, theirs_found = buckets(ours), buckets(theirs)
    assert list(ours_found.values()) == list(theirs_found.values())
    assert np.allclose(list(ours_found)[:-1], list(theirs_found)[:-1], rtol=1e-4)
    total = ours.get_sample_value("k2_x_seconds_sum")
    assert total is not None
    assert abs(total - values.sum()) < 1e-3


def test_clocks_that_disagree_do_not_count_backwards() -> None:
    registry = CollectorRegistry()
    histogram = BatchHistogram("k2_x_seconds", "x", (0.1, 1.0), registry)
    histogram.observe(np.array([-5.0, 0.05]))
    histogram.observe(np.array([]))
    assert registry.get_sample_value("k2_x_seconds_sum") == 0.05
    assert registry.get_sample_value("k2_x_seconds_bucket", {"le": "0.1"}) == 2
    assert registry.get_sample_value("k2_x_seconds_count") == 2


def test_neighbouring_buckets_allow_a_p99_within_a_fifth() -> None:
    assert FRESHNESS_BUCKETS_S[0] == 0.001
    assert FRESHNESS_BUCKETS_S[-1] > 50
    assert all(high / low < 1.21 for low, high in pairwise(FRESHNESS_BUCKETS_S))
