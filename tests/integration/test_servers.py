"""Sinks and the query service on servers as a cluster has them: PostgreSQL or a REST catalog, S3, Kafka with TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import certifi
import httpx
import pytest

import k2_core.kafka
from k2_cli.stack import ports
from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import KafkaUnavailableError
from k2_core.kafka import KafkaAdmin
from support.api import in_time
from support.lake import environment_settings
from support.postgres import SHIBBOLETH, LocalPostgres
from support.records import make_trades
from support.rest_catalog import LocalRestCatalog
from support.s3 import SIGNING_KEY, LocalS3
from support.secure_kafka import SecureKafka
from support.sink import SinkProcess, SinkWorkspace
from support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.faults]
SYMBOLS = tuple(f"S{number}USDT" for number in range(12))
API_KEY = "tests.0123456789abcdef"
SECRETS = (SHIBBOLETH, SIGNING_KEY, API_KEY.partition(".")[2])


@pytest.fixture(params=["sql", pytest.param("rest", marks=pytest.mark.rest)])
def catalog(request: pytest.FixtureRequest) -> LocalPostgres | LocalRestCatalog:
    """The server that a pipeline's catalog is."""
    server: LocalPostgres | LocalRestCatalog = request.getfixturevalue(
        {"sql": "postgres", "rest": "rest_catalog"}[request.param]
    )
    return server


@pytest.fixture
def work(
    kafka: LocalKafka, s3: LocalS3, catalog: LocalPostgres | LocalRestCatalog, tmp_path: Path
) -> Iterator[SinkWorkspace]:
    """A pipeline whose catalog is a server and whose files are on S3; no log of it may show a secret."""
    if isinstance(catalog, LocalRestCatalog):
        lake = catalog.environment
    else:
        lake = {"K2_CATALOG_URI": catalog.database(), **s3.environment(s3.bucket())}
    workspace = SinkWorkspace(kafka.bootstrap_servers, tmp_path, lake=lake)
    yield workspace
    workspace.close()
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert not [secret for secret in SECRETS if secret in logs]
    assert "Traceback" not in logs


@pytest.fixture(scope="module")
def secure_kafka(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A Kafka that takes TLS and passwords only. `kafka` is asked for first: where that is missing, so is this."""
    broker = SecureKafka(tmp_path_factory.mktemp("secure-kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@contextmanager
def query(environment: Mapping[str, str], log: Path) -> Iterator[httpx.Client]:
    """A query service for others than this machine, with a key, and a client of it that has the key."""
    port = ports.find_free(str(log))
    everywhere = str(IPv4Address(0))
    more = {"K2_LISTEN_HOST": everywhere, "K2_PORT": str(port), "K2_API_KEYS": API_KEY, "TMPDIR": str(log.parent)}
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "k2_query"], env={**os.environ, **environment, **more}, stderr=stderr
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": API_KEY}, timeout=30) as client:
            wait_until(lambda: ready(client) or child.poll() is not None, "the query service to be ready")
            yield client
        child.terminate()
        assert child.wait(30) == 0, log.read_text()
    finally:
        child.kill()
        child.wait()


def _is_two(owned: Callable[[str], float]) -> bool:
    return owned("k2_sink_owned_partitions") == 2


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def test_two_sinks_one_killed_every_trade_once_and_readable(work: SinkWorkspace) -> None:
    trades = make_trades(6_000, symbols=SYMBOLS, seed=41)
    first, second = work.start(), work.start()
    for owned in (first.metric, second.metric):
        wait_until(partial(_is_two, owned), "two partitions each")
    work.produce(trades[:3_000])
    first.wait_said("committed")
    second.wait_said("committed")
    work.produce(trades[3_000:4_500])
    first.kill()
    work.produce(trades[4_500:])
    wait_until(lambda: work.committed() == 6_000, "the survivor to take in all")
    assert second.terminate() == 0
    work.check(trades)
    wanted = {trade["message_id"] for trade in trades if trade["symbol"] == "S3USDT"}
    with query(work.environment(), work.folder / "query.log") as client:
        answer = client.get("/v1/trades", params={"symbol": "S3USDT", "limit": 10_000, "source": "lake"})
        assert {row["message_id"] for row in answer.json()["data"]} == wanted
        assert (
            client.get("/v1/trades?symbol=S3USDT", headers={"X-API-Key": "nobody.0123456789abcdef"}).status_code == 401
        )
        assert {row["symbol"] for row in client.get("/v1/symbols").json()["data"]} == set(SYMBOLS)
        fetched = [line for line in client.get("/metrics").text.splitlines() if "fetched_files_total " in line]
        assert fetched
        assert float(fetched[-1].rpartition(" ")[2]) > 0
    assert list((work.folder / "k2-query-cache").iterdir()) == []


@pytest.mark.parametrize("catalog", ["sql"], indirect=True)
def test_an_outage_of_either_server_heals_and_loses_nothing(
    work: SinkWorkspace, s3: LocalS3, catalog: LocalPostgres
) -> None:
    trades = make_trades(1_500, symbols=SYMBOLS, seed=42)
    sink = work.start()
    work.produce(trades[:500])
    wait_until(lambda: work.committed() == 500, "the first part")
    s3.stop()
    try:
        work.produce(trades[500:1_000])
        sink.wait_said("will be tried again")
        assert [sink.get(path).status_code for path in ("/livez", "/readyz")] == [200, 503]
        assert "found no answer" in sink.get("/readyz").json()["checks"]["commit"]
    finally:
        s3.start()
    wait_until(lambda: work.committed() == 1_000, "the second part")
    catalog.stop()
    try:
        work.produce(trades[1_000:])
        sink.wait_said("no clear answer")
        assert sink.get("/livez").status_code == 200
    finally:
        catalog.start()
    wait_until(lambda: work.committed() == 1_500, "the third part")
    wait_until(lambda: sink.get("/readyz").is_success, "readiness to come back")
    assert sink.terminate() == 0
    work.check(trades)


@pytest.mark.rest
@pytest.mark.parametrize("catalog", ["rest"], indirect=True)
def test_an_outage_of_a_rest_catalog_heals_and_loses_nothing(work: SinkWorkspace, catalog: LocalRestCatalog) -> None:
    trades = make_trades(1_000, symbols=SYMBOLS, seed=44)
    sink = work.start()
    work.produce(trades[:500])
    wait_until(lambda: work.committed() == 500, "the first part")
    catalog.stop()
    try:
        work.produce(trades[500:])
        sink.wait_said("no clear answer")
        assert sink.get("/livez").status_code == 200
    finally:
        catalog.start()
    wait_until(lambda: work.committed() == 1_000, "the second part")
    assert sink.terminate() == 0
    work.check(trades)


def refused(work: SinkWorkspace, **wrong: str) -> str:
    """Start a sink that cannot start, end it, and return why it said that it waits."""
    sink = SinkProcess(work.environment(**wrong), work.folder / "refused.log")
    try:
        wait_until(lambda: sink.said("will be tried again") or sink.process.poll() is not None, "a reason")
        assert sink.process.poll() is None, sink.log.read_text()
        return str(sink.said("will be tried again")[0]["error"])
    finally:
        sink.kill()


@pytest.mark.parametrize("catalog", ["sql"], indirect=True)
def test_what_is_wrong_with_a_server_is_one_line_at_the_start(work: SinkWorkspace, postgres: LocalPostgres) -> None:
    assert "found the key refused" in refused(work, K2_S3_ACCESS_KEY="wrong")
    assert "found no such bucket" in refused(work, K2_WAREHOUSE="s3://nowhere-at-all/w")
    assert "password authentication failed" in refused(work, K2_CATALOG_URI=postgres.uri("postgres", "wrong"))


@pytest.mark.rest
@pytest.mark.parametrize("catalog", ["rest"], indirect=True)
def test_what_is_wrong_with_a_rest_catalog_is_one_line_at_the_start(work: SinkWorkspace, s3: LocalS3) -> None:
    assert "found the key refused" in refused(work, K2_S3_ACCESS_KEY="wrong")
    nobody = ports.find_free("nobody")
    assert "Connection refused" in refused(work, K2_CATALOG_URI=f"http://127.0.0.1:{nobody}")
    assert "catalog: found" in refused(work, K2_CATALOG_URI=s3.endpoint)


class TestSecureKafka:
    @pytest.fixture
    def work(self, secure_kafka: SecureKafka, tmp_path: Path) -> Iterator[SinkWorkspace]:
        """A pipeline on the secure Kafka, with a lake in a folder."""
        workspace = SinkWorkspace(secure_kafka.bootstrap_servers, tmp_path, kafka=secure_kafka.environment)
        yield workspace
        workspace.close()
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert secure_kafka.environment["K2_KAFKA_SASL_PASSWORD"] not in logs

    def test_sink_and_query_over_tls_with_a_password(self, work: SinkWorkspace) -> None:
        trades = make_trades(1_000, symbols=("BTCUSDT", "ETHUSDT"), seed=43)
        work.produce(trades[:600])
        work.run_to_end()
        work.check(trades[:600])
        work.produce(trades[600:])
        wanted = {trade["message_id"] for trade in trades if trade["symbol"] == "BTCUSDT"}
        with query(work.environment(), work.folder / "query.log") as client:
            parameters = {"symbol": "BTCUSDT", "limit": "10000"}
            answer = in_time(lambda: dict(client.get("/v1/trades", params=parameters).json()))
            assert answer["meta"]["complete"] is True
            assert {row["message_id"] for row in answer["data"]} == wanted

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"K2_KAFKA_SASL_PASSWORD": "no"}, "invalid credentials with SASL mechanism SCRAM-SHA-512"),
            ({"K2_KAFKA_SASL_MECHANISM": "PLAIN"}, "supported mechanisms: SCRAM-SHA-512"),
            ({"K2_KAFKA_CA_FILE": certifi.where()}, "certificate verify failed"),
            ({"K2_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, "over PLAINTEXT"),
        ],
        ids=["password", "mechanism", "authority", "protocol"],
    )
    def test_a_wrong_setting_is_one_line(
        self, work: SinkWorkspace, wrong: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(k2_core.kafka, "ADMIN_TIMEOUT_S", 3.0)
        settings = environment_settings({**work.environment(), **wrong})
        with pytest.raises(KafkaUnavailableError, match=message) as caught:
            KafkaAdmin(settings).cluster_id()
        assert "\n" not in str(caught.value)
        assert f"expected an answer from Kafka at {work.bootstrap_servers} over" in str(caught.value)
