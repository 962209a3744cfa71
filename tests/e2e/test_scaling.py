"""Sinks on a real cluster come and go with the load alone: lag raises levels and brings pods, its end takes them back.

The settings are given once, when the pipeline is made. A sink is small, as its CPU limit and the strongest compression
make it, and the test exchange sends more than it takes for a while. What one sink takes the policy has to measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from onenode.network import NODE_ADDRESS
from onenode.servers import PORTS, Servers
from support.feed import Feed, container
from support.site import SYSTEM, Site
from support.table_is_log import assert_table_is_log

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FIRST_IDS = {"BTCUSDT": 1_000, "ETHUSDT": 5_000_000, "SOLUSDT": 70_000}
"""Of symbols in three partitions, so that three sinks have something to do."""
CALM_PER_S, CALM_RECORDS = 200, 4_000
"""Next to nothing for one sink, and below any threshold while pods start. After the burst one must do for it again."""
BURST_PER_S, BURST_RECORDS = 15_000, 450_000
"""Half a minute of some times what one sink takes, and a fraction of what the ingest does."""
SINK = {
    "commitIntervalSeconds": 2,
    "compressionLevel": 19,
    "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "150m"}},
}
LEVELS = {
    "mode": "Auto",
    "levels": {
        "soft": {"enterUnreadRecords": 10_000},
        "graceful": {"enterUnreadRecords": 50_000},
        "aggressive": {"enterUnreadRecords": 50_000_000, "enterAgeSeconds": 900},
        "circuitBreak": {"enterUnreadRecords": 100_000_000},
    },
    "dwellUpSeconds": 1,
    "dwellDownSeconds": 3,
    "forecastHorizonSeconds": 0,
    "settleAtMostSeconds": 0,
    "rebalanceGraceSeconds": 0,
}
SCALING = {
    "mode": "Auto",
    "maxReplicas": 3,
    "catchUpSeconds": 30,
    "restartSeconds": 1,
    "settleSeconds": 5,
    "downWindowSeconds": 20,
}
"""No `assumedPerSecond`: nothing but what was measured moves a sink. Windows of seconds, so that a test can wait."""


class Exchange:
    """The test exchange in one phase after another, with ids that go on where the last phase ended.

    Args:
        site: Where it runs.
        servers: Starts it.
    """

    def __init__(self, site: Site, servers: Servers) -> None:
        self._site = site
        self._servers = servers
        self._next = dict(FIRST_IDS)

    def send(self, per_s: int, *more: str) -> None:
        """End the phase that is at work, and begin the next."""
        self._servers.stop(["exchange"])
        firsts = [part for symbol, first in self._next.items() for part in ("--first-id", f"{symbol}={first}")]
        options = ["--symbols", ",".join(FIRST_IDS), "--rate", str(per_s), *firsts, *more]
        self._servers.up(["exchange"], exchange=options)

    def wait_sent(self, what: str) -> None:
        """Wait until a phase with an end has sent everything."""

        def sent() -> Mapping[str, Any] | None:
            status = self._site.fetch(f"http://{NODE_ADDRESS}:{PORTS['exchange']}/k2/status")
            return status if status and status["finished"] else None

        streams = self._site.wait(sent, what)["streams"]
        for symbol in FIRST_IDS:
            if (stream := streams.get(f"{symbol.lower()}@trade")) is not None:
                self._next[symbol] = stream["last_id"] + 1


@pytest.fixture
def exchange(site: Site, servers: Servers) -> Exchange:
    """For one pipeline alone: a phase begins with its first client, which must not be that of a test before."""
    site.kubectl("delete", "k2p", "--all", "--all-namespaces", "--timeout=150s")
    return Exchange(site, servers)


def kill_operator(site: Site) -> None:
    site.kill(site.items(SYSTEM, "pods", "app.kubernetes.io/component=operator")[0])


def test_a_burst_brings_sinks_and_its_end_takes_them_away(site: Site, exchange: Exchange) -> None:
    feed = Feed(site, "load", tuple(FIRST_IDS))

    def wanted() -> int:
        return int(feed.status.get("replicas", {}).get("sinkWanted", 0))

    def settled(sinks: int) -> bool:
        pods, deciding = feed.pods("sink"), feed.condition("DecisionReady").get("status") == "True"
        ready = len(pods) == sinks and all(container(pod).get("ready") for pod in pods)
        return bool(ready and deciding and feed.status.get("level") == 0)

    exchange.send(CALM_PER_S, "--count", str(CALM_RECORDS))
    site.namespace("load")
    feed.apply(sink=SINK, degradation=LEVELS, scaling=SCALING)
    generation = site.get("load", "k2p", "load")["metadata"]["generation"]  # type: ignore[index]
    site.wait(lambda: settled(1), "one sink at level 0")
    exchange.wait_sent("the calm before the burst")

    exchange.send(BURST_PER_S, "--count", str(BURST_RECORDS))
    most = site.wait(lambda: (sinks := wanted()) > 1 and sinks, "more sinks to be wanted")
    kill_operator(site)
    site.wait(lambda: feed.status.get("level", 0) >= 1, "a level for the lag")

    def come() -> bool:
        pods = feed.pods("sink")
        return len(pods) >= most and all(container(pod).get("ready") for pod in pods)

    site.wait(come, f"{most} sinks")
    exchange.wait_sent("the burst")
    exchange.send(CALM_PER_S)
    site.wait(lambda: wanted() < most, "fewer sinks to be wanted")
    kill_operator(site)
    site.wait(lambda: settled(1), "one sink at level 0 again")
    told = {one["message"].partition(" (")[0] for one in site.items("load", "events")}
    assert {"level 1 to 0", f"sinks 1 to {most}", "sinks 2 to 1"} <= told, told
    assert site.get("load", "k2p", "load")["metadata"]["generation"] == generation  # type: ignore[index]

    sent = {symbol: feed.sent(symbol) for symbol in FIRST_IDS}
    site.kubectl("delete", "k2p", "load", "--namespace=load", "--timeout=150s")
    received = assert_table_is_log(feed)
    for symbol, first in FIRST_IDS.items():
        assert received[symbol] == [[first, received[symbol][-1][1]]], f"{symbol}: {received[symbol]}"
        assert received[symbol][-1][1] >= sent[symbol], f"{symbol}: expected what was sent before it was deleted"
    records = sum(ranges[-1][1] - FIRST_IDS[symbol] + 1 for symbol, ranges in received.items())
    assert records > CALM_RECORDS + BURST_RECORDS
