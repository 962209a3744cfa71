"""Health and metrics over real HTTP on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from k2_core.errors import SetupError
from k2_core.health import HealthServer, Heartbeat, report
from k2_core.metrics import CONTENT_TYPE


class Service:
    """What the checks look at."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.stuck: str | None = None
        self.starting: str | None = None
        self.registry = CollectorRegistry()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    checks = {"kafka": lambda: service.problem, "catalog": lambda: None}
    live = {"loop": lambda: service.stuck}
    ready = {"start": lambda: service.starting}
    with HealthServer("127.0.0.1", 0, service.registry, checks, live=live, ready=ready) as server:
        yield f"http://127.0.0.1:{server.port}"


class TestReport:
    def test_no_checks_is_healthy(self) -> None:
        assert report({}) == (True, {"status": "ok", "checks": {}})

    def test_one_problem_is_enough(self) -> None:
        healthy, document = report({"kafka": lambda: "found no poll for 70 s", "catalog": lambda: None})
        assert healthy is False
        assert document == {
            "status": "unhealthy",
            "checks": {"kafka": "found no poll for 70 s", "catalog": "ok"},
        }


class TestHeartbeat:
    def test_a_loop_that_goes_round_and_one_that_does_not(self) -> None:
        now = [0.0]
        heart = Heartbeat(limit_s=10, clock=lambda: now[0])
        now[0] = 10
        assert heart.check() is None
        now[0] = 12
        assert heart.check() == "found no progress for 12 s, expected some within 10 s"
        heart.beat()
        assert heart.check() is None


class TestServer:
    def test_healthy(self, url: str) -> None:
        answer = httpx.get(f"{url}/health")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {"status": "ok", "checks": {"kafka": "ok", "catalog": "ok"}}

    def test_unhealthy_and_healthy_again(self, url: str, service: Service) -> None:
        service.problem = "found no poll for 70 s, expected one within 60 s"
        sick = httpx.get(f"{url}/health")
        service.problem = None
        assert (sick.status_code, sick.json()["checks"]["kafka"]) == (
            503,
            "found no poll for 70 s, expected one within 60 s",
        )
        assert httpx.get(f"{url}/health").status_code == 200

    @pytest.mark.parametrize(
        ("path", "fault"),
        [("/livez", "stuck"), ("/readyz", "starting"), ("/health", "problem")],
        ids=["live", "ready", "health"],
    )
    def test_each_path_asks_its_own_checks(self, url: str, service: Service, path: str, fault: str) -> None:
        setattr(service, fault, "found none, expected one")
        answers = {other: httpx.get(f"{url}{other}").status_code for other in ("/livez", "/readyz", "/health")}
        assert answers == {"/livez": 200, "/readyz": 200, "/health": 200} | {path: 503}

    def test_metrics_are_of_the_moment(self, url: str, service: Service) -> None:
        counter = Counter("k2_rows", "Rows", registry=service.registry)
        counter.inc(3)
        answer = httpx.get(f"{url}/metrics")
        assert (answer.status_code, answer.headers["content-type"]) == (200, CONTENT_TYPE)
        assert "k2_rows_total 3.0" in answer.text

    @pytest.mark.parametrize("path", ["/", "/healthz", "/metrics/x"], ids=["root", "other", "below"])
    def test_anything_else_says_what_there_is(self, url: str, path: str) -> None:
        answer = httpx.get(f"{url}{path}")
        assert (answer.status_code, answer.text) == (404, "expected /health, /livez, /readyz or /metrics\n")

    def test_a_scrape_is_not_logged(self, url: str, capfd: pytest.CaptureFixture[str]) -> None:
        httpx.get(f"{url}/health")
        assert capfd.readouterr().err == ""

    def test_a_client_that_says_nothing_does_not_stop_the_others(self, url: str) -> None:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 0)):
            assert httpx.get(f"{url}/health", timeout=5).status_code == 200

    def test_after_the_end_the_port_is_free(self) -> None:
        with HealthServer("127.0.0.1", 0, CollectorRegistry(), {}) as server:
            port = server.port
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/health")
        with HealthServer("127.0.0.1", port, CollectorRegistry(), {}) as again:
            assert again.port == port


class TestPort:
    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(SetupError, match=f"metrics port: found 127.0.0.1:{port} in use"):
                HealthServer("127.0.0.1", port, CollectorRegistry(), {})

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(SetupError, match="expected it free"):
            HealthServer("192.0.2.1", 0, CollectorRegistry(), {})
