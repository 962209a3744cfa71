"""Fixtures of all tests: the session's Kafka and schema registry, topics, the proof that no child process survives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.config import ServiceSettings
from onenode import cluster as clusters
from support import postgres as postgres_servers
from support import registry as registries
from support import rest_catalog as rest_catalogs
from support import s3 as s3_servers
from support import trino as trino_servers
from support.cluster import ControlPlaneHandle
from support.cluster import start_or_skip as start_control_plane_or_skip
from support.kafka import TopicFactory, start_or_skip
from support.lacking import pytest_make_collect_report, pytest_runtest_makereport
from support.lake import environment_settings, lake_settings
from support.postgres import LocalPostgres
from support.registry import LocalRegistry
from support.rest_catalog import LocalRestCatalog
from support.s3 import LocalS3
from support.trino import LocalTrino

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]  # hooks: under CI no test may be skipped


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A running one-node Kafka for the whole session: tests must not stop it. Mark its users `kafka`."""
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"))
    start_or_skip(broker)
    yield broker
    broker.stop()


@pytest.fixture
def topic_factory(kafka: LocalKafka) -> Iterator[TopicFactory]:
    """Creates uniquely named topics and deletes them after the test."""
    factory = TopicFactory(kafka.bootstrap_servers)
    yield factory
    factory.delete_all()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A running schema registry for the whole session: tests must not stop it."""
    server = LocalRegistry(tmp_path_factory.mktemp("registry"))
    registries.start_or_skip(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlaneHandle]:
    """A running Kubernetes control plane for the whole session: tests use names of their own and must not stop it."""
    handle = start_control_plane_or_skip(tmp_path_factory.mktemp("cluster") / "control-plane")
    yield handle
    clusters.down(handle.directory)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """A running S3 server for the whole session; a test that stops it starts it again."""
    server = LocalS3(tmp_path_factory.mktemp("s3"))
    s3_servers.start_or_skip(server)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    """A running PostgreSQL for the whole session; a test that stops it starts it again."""
    server = LocalPostgres(tmp_path_factory.mktemp("postgres"))
    try:
        postgres_servers.start_or_skip(server)
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def rest_server(
    postgres: LocalPostgres, s3: LocalS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalRestCatalog]:
    """A running REST catalog for the whole session; ask for `rest_catalog`."""
    directory = tmp_path_factory.mktemp("rest-catalog")
    server = LocalRestCatalog(directory, postgres.database(), s3.environment(s3.bucket()))
    rest_catalogs.start_or_skip(server)
    yield server
    server.stop()


@pytest.fixture
def rest_catalog(rest_server: LocalRestCatalog) -> LocalRestCatalog:
    """The REST catalog, empty; a test that stops it starts it again."""
    rest_server.renew()
    return rest_server


@pytest.fixture(params=["sql", pytest.param("rest", marks=pytest.mark.rest)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> ServiceSettings:
    """A catalog in a file and a warehouse in a folder; or a REST catalog, and a warehouse on S3."""
    if request.param == "sql":
        return lake_settings(tmp_path)
    server: LocalRestCatalog = request.getfixturevalue("rest_catalog")
    return environment_settings(server.environment)


@pytest.fixture(scope="session")
def trino(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTrino]:
    """A running Trino for the whole session, its catalogs made by tests. Mark its users `trino`."""
    server = LocalTrino(tmp_path_factory.mktemp("trino"))
    trino_servers.start_or_skip(server)
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def no_process_survives() -> Iterator[None]:
    """Fails the session if a child of pytest outlives all fixtures (this one is set up first, torn down last)."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    survivors = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(survivors, timeout=5)
    assert not alive, f"child processes survive the tests: {[(c.pid, c.name()) for c in alive]}"
