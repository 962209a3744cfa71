"""k2_cli.scrape against a real metrics server."""

from __future__ import annotations

import math
import socket

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from k2_cli.scrape import Sample, Scraper, parse, quantile, since
from k2_core.health import HealthServer
from k2_core.metrics import exposition


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    rows = Counter("k2_rows_total", "Rows", ["symbol"], registry=found)
    rows.labels("A").inc(3)
    rows.labels("B").inc(4)
    Gauge("k2_lag", "Lag", registry=found).set(12)
    seconds = Histogram("k2_seconds", "Seconds", ["stage"], buckets=(0.1, 1.0), registry=found)
    for stage, value in (("x", 0.05), ("x", 0.5), ("y", 0.05), ("y", 5.0)):
        seconds.labels(stage).observe(value)
    return found


def sample() -> Sample:
    return parse(exposition(registry()).decode())


def test_totals_are_over_all_labels() -> None:
    assert sample().total("k2_rows_total") == 7
    assert sample().total("k2_lag") == 12


def test_a_series_that_is_not_there_is_unknown_and_not_0() -> None:
    assert sample().total("k2_nothing") is None
    assert sample().buckets("k2_nothing") == []


@pytest.mark.parametrize(("problem", "expected"), [(None, True), ("found no progress", False)])
def test_whether_a_service_makes_progress(problem: str | None, expected: bool) -> None:
    with HealthServer("127.0.0.1", 0, registry(), {}, live={"loop": lambda: problem}) as server:
        scraper = Scraper()
        assert scraper.live(f"http://127.0.0.1:{server.port}") is expected
        scraper.close()


def test_who_does_not_answer_is_not_known_to_make_progress() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        scraper = Scraper()
        assert scraper.live(f"http://127.0.0.1:{silent.getsockname()[1]}") is None
        scraper.close()


def test_buckets_are_cumulative_and_over_all_labels() -> None:
    assert sample().buckets("k2_seconds") == [(0.1, 2), (1.0, 3), (math.inf, 4)]


@pytest.mark.parametrize(
    ("share", "value"),
    [
        pytest.param(0.25, 0.05, id="within the first bucket"),
        pytest.param(0.5, 0.1, id="at a bound"),
        pytest.param(0.625, 0.55, id="within the second"),
        pytest.param(0.99, 1.0, id="beyond the last bound"),
    ],
)
def test_quantiles_interpolate_as_prometheus_does(share: float, value: float) -> None:
    assert quantile(sample().buckets("k2_seconds"), share) == pytest.approx(value)


@pytest.mark.parametrize("buckets", [[], [(1.0, 0.0), (math.inf, 0.0)]], ids=["none", "empty"])
def test_no_observation_has_no_quantile(buckets: list[tuple[float, float]]) -> None:
    assert quantile(buckets, 0.99) is None


def test_what_was_observed_in_between() -> None:
    before, after = [(1.0, 2.0), (math.inf, 2.0)], [(1.0, 2.0), (math.inf, 5.0)]
    assert since(before, after) == [(1.0, 0.0), (math.inf, 3.0)]
    assert since([], after) == after


def test_a_service_is_read_and_asked_how_it_is() -> None:
    problems: dict[str, str | None] = {"commit": None}
    scraper = Scraper()
    with HealthServer("127.0.0.1", 0, registry(), {"commit": lambda: problems["commit"]}) as server:
        url = f"http://127.0.0.1:{server.port}"
        found = scraper.read(url)
        assert found is not None
        assert found.total("k2_lag") == 12
        assert scraper.read(f"{url}/elsewhere") is None
        assert scraper.healthy(url) is None
        problems["commit"] = "catalog locked"
        assert "catalog locked" in (scraper.healthy(url) or "")
    scraper.close()


def test_a_service_that_is_away_is_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        url = f"http://127.0.0.1:{closing.getsockname()[1]}"
    scraper = Scraper()
    assert scraper.read(url) is None
    assert scraper.healthy(url) == "no answer (ConnectError)"
    scraper.close()


def test_one_that_can_work_is_ready_though_not_all_is_well() -> None:
    problems = {"commit": "starting"}
    checks, ready = {"control": lambda: "found no topic"}, {"commit": lambda: problems.get("commit")}
    with HealthServer("127.0.0.1", 0, registry(), checks, ready=ready) as server:
        scraper, url = Scraper(), f"http://127.0.0.1:{server.port}"
        assert "starting" in (scraper.ready(url) or "")
        problems.clear()
        assert scraper.ready(url) is None
        assert "found no topic" in (scraper.healthy(url) or "")
        scraper.close()


def test_what_one_check_says_is_wrong() -> None:
    with HealthServer("127.0.0.1", 0, registry(), {"a": lambda: None, "b": lambda: "found nothing"}) as server:
        scraper, url = Scraper(), f"http://127.0.0.1:{server.port}"
        assert [scraper.complaint(url, name) for name in ("a", "b", "c")] == [None, "found nothing", None]
        assert scraper.complaint("http://127.0.0.1:9", "b") is None
        scraper.close()
