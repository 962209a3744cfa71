"""How pods are told to reach the servers beside a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_core.errors import SetupError
from onenode import servers
from onenode.cluster import Cluster
from onenode.servers import Credentials, Servers, describe

CREDENTIALS = Credentials("pg", "redis", "access", "signing")


def test_pods_reach_servers_by_the_names_of_their_services() -> None:
    assert describe(servers.PORTS, CREDENTIALS) == {
        "kafka_bootstrap": "kafka.k2-dev.svc.cluster.local:9092",
        "registry_url": "http://registry.k2-dev.svc.cluster.local:8081/apis/ccompat/v7",
        "catalog_uri": "postgresql+psycopg://k2:pg@postgres.k2-dev.svc.cluster.local:5432/postgres",
        "s3_endpoint": "http://s3.k2-dev.svc.cluster.local:9000",
        "s3_warehouse": "s3://warehouse/k2",
        "s3_access_key": "access",
        "s3_secret_key": "signing",
        "redis_url": "redis://:redis@redis.k2-dev.svc.cluster.local:6379/0",
        "exchange": "exchange.k2-dev.svc.cluster.local:9443",
    }


def test_what_does_not_run_is_not_offered() -> None:
    assert describe(["kafka"], CREDENTIALS) == {"kafka_bootstrap": "kafka.k2-dev.svc.cluster.local:9092"}


def test_each_clusters_credentials_are_its_own() -> None:
    assert Credentials.new() != Credentials.new()


def test_a_control_plane_alone_has_no_network_for_them(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="expected a whole cluster"):
        Servers(Cluster(str(tmp_path), "", ""))
