"""kubectl apply to all pods Ready and the first committed row, on a real one-node cluster with images loaded.

Everything is real and on this machine: API server, kubelet, containerd, Kafka, registry, PostgreSQL, S3 and the test
exchange, which share its processors with the pods. Needs root, as `hack/cluster up` does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from figures import Figure, at_most
from workload import Progress

from onenode import cluster, images
from onenode.servers import PORTS, Servers
from support.feed import Feed, container
from support.site import Site

RUNS = 3
RATE = 200
PATIENCE_S = 300.0
COMPONENTS = ("ingest", "sink", "query")


def run(progress: Progress) -> list[Figure]:
    """Apply a few pipelines, one after the other."""
    ready, rows = [], []
    with installed(progress) as (site, servers):
        for number in range(RUNS):
            _restart_exchange(servers)
            name = f"apply-{number}"
            site.namespace(name)
            first_ready, first_row = _apply(Feed(site, name, ("BTCUSDT", "ETHUSDT")))
            progress(f"{name}: all pods ready after {first_ready:.1f} s, first committed row after {first_row:.1f} s")
            ready.append(first_ready)
            rows.append(first_row)
            site.kubectl("delete", "k2p", name, f"--namespace={name}", "--timeout=150s")
    both = max(map(max, zip(ready, rows, strict=True)))
    return [
        Figure("apply", f"apply to all pods Ready, slowest of {RUNS}", max(ready), "s"),
        Figure("apply", f"apply to the first committed row, slowest of {RUNS}", max(rows), "s"),
        at_most("apply", f"apply to both, slowest of {RUNS}", both, "s", 60),
    ]


@contextmanager
def installed(progress: Progress) -> Iterator[tuple[Site, Servers]]:
    """A cluster with servers, images and the chart; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="k2-apply-") as folder:
        directory = Path(folder) / "cluster"
        started = cluster.up(directory, "k2-bench", say=progress)
        try:
            cluster.give_images(directory, images.TARGETS, images.BASE, say=progress)
            servers = Servers(started, say=progress)
            reached = servers.up(list(PORTS))
            site = Site(directory, started.name, Path(started.kubeconfig), tuple(started.enter), reached)
            site.install()
            yield site, servers
        finally:
            cluster.down(directory)


def _restart_exchange(servers: Servers) -> None:
    servers.stop(["exchange"])
    servers.up(["exchange"], exchange=["--symbols", "BTCUSDT,ETHUSDT", "--rate", str(RATE)])


def _apply(feed: Feed) -> tuple[float, float]:
    """Return seconds from the apply to every pod being ready, and to a committed row that the API answers with."""
    began_s, since = time.monotonic(), datetime.now(UTC) - timedelta(minutes=1)
    feed.apply()
    feed.site.wait(lambda: _all_ready(feed), "all pods to be ready", PATIENCE_S)
    ready_s = time.monotonic() - began_s
    feed.site.wait(lambda: _has_row(feed, since), "a committed row", PATIENCE_S)
    return ready_s, time.monotonic() - began_s


def _all_ready(feed: Feed) -> bool:
    pods = [feed.pods(component) for component in COMPONENTS]
    return all(pods) and all(container(pod).get("ready") for part in pods for pod in part)


def _has_row(feed: Feed, since: datetime) -> bool:
    end = datetime.now(UTC) + timedelta(minutes=1)
    return any(feed.rows(symbol, since, end) for symbol in feed.symbols)
