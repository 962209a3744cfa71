"""One registry a process: what is in it, and that Prometheus can read it."""

from __future__ import annotations

from importlib import metadata

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from k2_core.breaker import CircuitBreaker
from k2_core.errors import RetryableError
from k2_core.metrics import CONTENT_TYPE, LATENCY_BUCKETS_S, Words, exposition, new_registry, watch_breakers


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_build_information() -> None:
    found = samples(exposition(new_registry("k2-sink")))
    labels = (("service", "k2-sink"), ("version", metadata.version("k2-lakehouse")))
    assert found["k2_build_info", labels] == 1


@pytest.mark.parametrize("name", ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"])
def test_figures_of_the_process(name: str) -> None:
    assert samples(exposition(new_registry("k2-sink")))[name, ()] > 0


def test_registries_are_independent() -> None:
    one, two = new_registry("k2-a"), new_registry("k2-b")
    Counter("k2_things", "Things", registry=one).inc()
    Counter("k2_things", "Things", registry=two).inc(2)
    assert samples(exposition(one))["k2_things_total", ()] == 1


def test_breakers_show_their_state_of_the_moment() -> None:
    now_s = 0.0
    registry = new_registry("k2-sink")
    venue = CircuitBreaker("venue", failure_threshold=1, cooldown_s=10, clock=lambda: now_s)
    watch_breakers([venue, CircuitBreaker("catalog")], registry)

    def shown(name: str) -> float:
        return samples(exposition(registry))["k2_circuit_breaker_state", (("name", name),)]

    states = [shown("venue")]
    with pytest.raises(RetryableError), venue.guard():
        raise RetryableError("away")
    states.append(shown("venue"))
    now_s = 10.0
    states.append(shown("venue"))
    assert (states, shown("catalog")) == ([0, 2, 1], 0)


def test_buckets_reach_from_a_cache_hit_to_a_minute() -> None:
    assert list(LATENCY_BUCKETS_S) == sorted(LATENCY_BUCKETS_S)
    assert (LATENCY_BUCKETS_S[0], LATENCY_BUCKETS_S[-1]) == (0.001, 60.0)


def test_the_content_type_is_that_of_the_text() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_a_word_is_there_while_it_is_said_and_nobody_elses_goes_with_it() -> None:
    registry = CollectorRegistry()
    words = Words({"why": Gauge("k2_test_why", "Of a test", ("name", "word"), registry=registry)})

    def said() -> set[tuple[str, str]]:
        (family,) = registry.collect()
        return {(one.labels["name"], one.labels["word"]) for one in family.samples}

    words.show({"why": {("a",), ("b",)}}, "one")
    words.show({"why": {("a",)}}, "two")
    words.show({"why": {("b",), ("c",)}}, "one")
    assert said() == {("one", "b"), ("one", "c"), ("two", "a")}
    words.show({}, "one")
    assert said() == {("two", "a")}
