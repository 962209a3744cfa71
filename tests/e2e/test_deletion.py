"""`deletionPolicy: Delete` on a real cluster: no topic, table or object of the pipeline stays, and all of another's do.

What stays is looked at where it lies: Kafka's own list, the catalog's rows in PostgreSQL, and the store's disk.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from onenode.network import NODE_ADDRESS
from onenode.servers import BUCKET, PORTS, Servers
from support.feed import Feed
from support.site import Site

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SYMBOL = "BTCUSDT"
TOPICS = """
import json, sys
from confluent_kafka.admin import AdminClient
print(json.dumps(sorted(AdminClient({"bootstrap.servers": sys.argv[1]}).list_topics(timeout=20).topics)))
"""
TABLES = """
import json, sys
import psycopg
with psycopg.connect(sys.argv[1]) as connection:
    print(json.dumps(connection.execute("select table_namespace, table_name from iceberg_tables").fetchall()))
"""


def looked(site: Site, program: str, where: str) -> list[Any]:
    """What a program says that runs inside the cluster's network."""
    done = site.run(sys.executable, "-c", program, where)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def topics(site: Site, prefix: str) -> set[str]:
    names = map(str, looked(site, TOPICS, f"{NODE_ADDRESS}:{PORTS['kafka']}"))
    return {name for name in names if name.startswith(f"{prefix}.")}


def tables(site: Site, prefix: str) -> set[str]:
    outside = f"@{NODE_ADDRESS}:{PORTS['postgres']}/"
    before, _, rest = site.reached["catalog_uri"].removeprefix("postgresql+psycopg://").partition("@")
    user, _, password = before.partition(":")
    uri = f"postgresql://{user}:{quote(password)}{outside}{rest.partition('/')[2]}"
    rows = looked(site, TABLES, uri)
    return {str(name) for namespace, name in rows if namespace == prefix}


def objects(site: Site, prefix: str) -> set[Path]:
    """Objects and folders of a prefix, as the store's disk has them."""
    bucket = site.directory / "servers" / "s3" / BUCKET
    return {path.relative_to(bucket) for path in bucket.rglob("*") if prefix in path.relative_to(bucket).parts}


def committed_at(feed: Feed) -> object:
    return (feed.status.get("freshness") or {}).get("committedAt")


def has_trades(site: Site, feed: Feed) -> bool:
    return "trades" in tables(site, feed.prefix)


def test_what_a_pipeline_made_goes_with_it_and_nothing_of_another(site: Site, servers: Servers) -> None:
    servers.stop(["exchange"])
    servers.up(["exchange"], exchange=["--symbols", SYMBOL, "--rate", "100"])
    going, staying = (Feed(site, name, (SYMBOL,)) for name in ("going", "staying"))
    for feed, more in ((going, {"deletionPolicy": "Delete"}), (staying, {})):
        site.namespace(feed.name)
        feed.apply(**more)
    for feed in (going, staying):
        feed.wait_phase("Running")
        site.wait(partial(committed_at, feed), f"a commit of {feed.name}")
        site.wait(partial(has_trades, site, feed), f"the tables of {feed.name}")
        assert len(topics(site, feed.prefix)) == 2
        assert any(path.suffix == ".parquet" for path in objects(site, feed.prefix))

    staying.apply(suspend=True)
    staying.wait_phase("Suspended")
    kept = topics(site, "staying"), tables(site, "staying"), objects(site, "staying")
    site.kubectl("delete", "k2p", "going", "--namespace=going", "--timeout=200s")
    assert topics(site, "going") == set()
    assert tables(site, "going") == set()
    assert objects(site, "going") == set()
    for kind in ("pods", "jobs", "deployments", "networkpolicies", "serviceaccounts", "configmaps"):
        assert not site.items("going", kind, "k2.dev/pipeline=going"), kind
    said = {one["message"] for one in site.items("going", "events") if one["reason"] == "Removed"}
    assert any("tables dropped and" in one for one in said), said
    assert (topics(site, "staying"), tables(site, "staying"), objects(site, "staying")) == kept
    assert kept[1] >= {"trades"}
    site.kubectl("delete", "k2p", "staying", "--namespace=staying", "--timeout=150s")
    assert (topics(site, "staying"), tables(site, "staying"), objects(site, "staying")) == kept
