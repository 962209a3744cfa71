"""K2 on a real cluster: real pods, Kafka, registry, PostgreSQL and S3; what the exchange sent against the API's answer.

Two pipelines live through everything that happens to pipelines. What they are judged by is never a count alone: each
trade id that the exchange sent, once, and for a capture each value.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from k2_cli.captured import read_captures
from k2_cli.verdict import judge
from onenode.servers import Servers
from support.captures import capture_files
from support.feed import Feed, container
from support.site import CHART, PREVIOUS_CHART, RELEASE, SYSTEM, Site
from support.table_is_log import assert_table_is_log

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

FIRST_IDS = {"BTCUSDT": 1_000, "ETHUSDT": 5_000_000, "BNBUSDT": 70_000}
"""Of symbols in three partitions, so that three sinks have something to do."""
RATE = 200
LEVELS = {
    "mode": "Auto",
    "levels": {
        "soft": {"enterUnreadRecords": 500},
        "graceful": {"enterUnreadRecords": 1_000},
        "aggressive": {"enterUnreadRecords": 1_000_000},
        "circuitBreak": {"enterUnreadRecords": 2_000_000},
    },
    "dwellUpSeconds": 1,
    "dwellDownSeconds": 3,
    "rebalanceGraceSeconds": 0,
}
"""A second's dwell, so that a test can wait for the way back."""
OPERATOR = "deployment/k2-operator"


@pytest.fixture(scope="module")
def flow(site: Site, servers: Servers) -> Feed:
    """A pipeline that takes synthetic trades, with ids one after the other, for as long as the module lasts."""
    options = [part for symbol, first in FIRST_IDS.items() for part in ("--first-id", f"{symbol}={first}")]
    servers.stop(["exchange"])
    servers.up(["exchange"], exchange=["--symbols", ",".join(FIRST_IDS), "--rate", str(RATE), *options])
    site.namespace("flow")
    feed = Feed(site, "flow", tuple(FIRST_IDS), {"BNBUSDT": "low"})
    feed.apply()
    feed.wait_phase("Running")
    return feed


@pytest.fixture(scope="module")
def since() -> datetime:
    """Before the first trade of the module."""
    return datetime.now(UTC) - timedelta(minutes=1)


def assert_everything_is_there_once(feed: Feed, since: datetime) -> None:
    """Every id that the exchange has sent until now is in the table, and none of them twice."""
    for symbol, first in FIRST_IDS.items():
        last = feed.sent(symbol)

        def arrived(symbol: str = symbol, last: int = last) -> list[int] | None:
            ids = feed.ids(symbol, since)
            return ids if ids and ids[-1] >= last else None

        ids = feed.site.wait(arrived, f"{symbol} {last} in the table")
        assert ids == list(range(first, ids[-1] + 1)), f"{symbol}: {_wrong(first, ids)}"


def _wrong(first: int, ids: list[int]) -> str:
    missing = sorted(set(range(first, ids[-1] + 1)) - set(ids))
    doubled = sorted({one for one, next_one in pairwise(ids) if one == next_one})
    return f"missing {missing[:20]} of {len(missing)}, doubled {doubled[:20]} of {len(doubled)}"


def sink_uids(flow: Feed) -> set[str]:
    return {pod["metadata"]["uid"] for pod in flow.pods("sink")}


def rolled(flow: Feed, before: set[str]) -> bool:
    """Whether all sinks are ready and none of those from before is left."""
    pods = flow.pods("sink")
    return bool(pods) and all(container(pod).get("ready") for pod in pods) and not before & sink_uids(flow)


def test_a_capture_is_answered_trade_by_trade(site: Site, servers: Servers) -> None:
    files = capture_files("binance-ws", "*.gz")
    captured = read_captures(files)
    servers.stop(["exchange"])
    options = [part for file in files for part in ("--capture", str(file))]
    servers.up(["exchange"], exchange=[*options, "--speed", "20"])
    site.namespace("capture")
    feed = Feed(site, "capture", tuple(captured.symbols))
    feed.apply()
    feed.wait_phase("Running")
    first = min(int(moment) for moment in captured.columns["exchange_us"])  # type: ignore[call-overload]
    start = datetime.fromtimestamp(first / 1e6, UTC) - timedelta(minutes=1)

    def everything() -> object:
        table = feed.table(start, start + timedelta(minutes=30))
        return table if table is not None and table.num_rows >= captured.count else None

    verdict = judge(captured.table(), site.wait(everything, f"{captured.count} rows"), 0)
    assert verdict.exact, verdict.complaints()
    assert verdict.expected == captured.count

    site.kubectl("delete", "k2p", "capture", "--namespace=capture", "--timeout=150s")
    assert not site.items("capture", "pods")
    assert not site.items("capture", "deployments")
    assert site.get("capture", "service", "capture-query") is None


def test_a_deleted_child_comes_back(flow: Feed, since: datetime) -> None:
    flow.site.kubectl("delete", "deployment/flow-sink", "service/flow-query", "--namespace=flow", "--wait=false")
    flow.site.wait(lambda: flow.site.get("flow", "service", "flow-query"), "the Service to come back", 10)
    flow.site.wait(lambda: flow.site.get("flow", "deployment", "flow-sink"), "the Deployment to come back", 10)
    flow.wait_phase("Running")
    assert_everything_is_there_once(flow, since)


def test_an_edited_child_is_mended(flow: Feed) -> None:
    patch = '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":77}}}}'
    flow.site.kubectl("patch", "deployment/flow-query", "--namespace=flow", f"--patch={patch}")

    def mended() -> bool:
        found = flow.site.get("flow", "deployment", "flow-query") or {}
        return bool(found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] != 77)

    flow.site.wait(mended, "the edit to be mended", 10)
    flow.wait_phase("Running")


def test_a_killed_sink_loses_and_doubles_nothing(flow: Feed, since: datetime) -> None:
    for _ in range(2):
        pod = flow.site.wait(lambda: flow.pods("sink"), "a sink")[0]
        restarts = container(pod)["restartCount"]
        flow.site.kill(pod)

        def restarted(restarts: int = restarts) -> bool:
            pods = flow.pods("sink")
            status = container(pods[0]) if pods else {}
            return bool(status.get("restartCount", 0) > restarts and status.get("ready"))

        flow.site.wait(restarted, "the sink to be started again")
    assert_everything_is_there_once(flow, since)


def test_a_killed_operator_goes_on_where_it_was(flow: Feed, since: datetime) -> None:
    before = flow.uids()
    pods = flow.site.items(SYSTEM, "pods", "app.kubernetes.io/component=operator")
    flow.site.kill(pods[0])
    flow.site.kubectl("delete", "poddisruptionbudget/flow-sink", "--namespace=flow")
    flow.site.wait(lambda: flow.site.get("flow", "poddisruptionbudget", "flow-sink"), "the budget to come back")
    assert flow.uids() == before
    assert_everything_is_there_once(flow, since)


def test_more_and_fewer_sinks(flow: Feed, since: datetime) -> None:
    for replicas in (3, 1):
        flow.apply(sink={"commitIntervalSeconds": 2, "replicas": replicas})

        def there(replicas: int = replicas) -> bool:
            pods = flow.pods("sink")
            return len(pods) == replicas and all(container(pod).get("ready") for pod in pods)

        flow.site.wait(there, f"{replicas} sinks")
        assert_everything_is_there_once(flow, since)


def test_sinks_that_hang_raise_levels_and_all_goes_back(flow: Feed, since: datetime) -> None:
    def calm() -> bool:
        return flow.condition("DecisionReady").get("status") == "True" and flow.status.get("level") == 0

    before = sink_uids(flow)
    flow.apply(degradation=LEVELS)
    flow.site.wait(lambda: rolled(flow, before) and calm(), "a sink with these settings at level 0")
    sinks = flow.pods("sink")
    for pod in sinks:
        flow.site.signal(pod, signal.SIGSTOP)
    flow.site.wait(lambda: flow.status.get("level", 0) >= 2, "level 2")
    for pod in sinks:
        flow.site.signal(pod, signal.SIGCONT)
    flow.site.wait(calm, "level 0 again")
    told = {one["message"].partition(" (")[0] for one in flow.site.items("flow", "events")}
    assert "level 1 to 0" in told, told
    assert_everything_is_there_once(flow, since)  # what level 2 put off as well
    before = sink_uids(flow)
    flow.apply()
    flow.site.wait(lambda: rolled(flow, before), "a sink without these settings")


@pytest.mark.parametrize("chart", [PREVIOUS_CHART, CHART], ids=["back", "forward"])
def test_another_chart_touches_no_pod_of_a_pipeline(flow: Feed, since: datetime, chart: Path) -> None:
    """Back to the chart of before with its definition, then the upgrade from there, both with the images of now."""
    before, revision = flow.uids(), flow.site.revision()
    flow.site.upgrade(
        "--set=operator.resyncSeconds=3", f"--set=operator.podAnnotations.chart={chart.stem}", chart=chart
    )
    assert flow.site.revision() == revision + 1
    flow.site.kubectl("rollout", "status", OPERATOR, f"--namespace={SYSTEM}", "--timeout=120s")
    flow.wait_phase("Running")
    assert flow.uids() == before
    assert_everything_is_there_once(flow, since)


def test_another_image_rolls_sink_and_query(flow: Feed, since: datetime) -> None:
    flow.site.tag("k2-sink", "k2-sink-next")
    before = sink_uids(flow)
    flow.site.upgrade("--set=images.sink=k2-sink-next")
    flow.site.wait(lambda: rolled(flow, before), "a sink with the other image")
    assert {pod["spec"]["containers"][0]["image"].split(":")[0] for pod in flow.pods("sink")} == {"k2-sink-next"}
    assert_everything_is_there_once(flow, since)


def test_suspended_it_has_committed_all_it_received_and_goes_on_later(flow: Feed, since: datetime) -> None:
    sent = {symbol: flow.sent(symbol) for symbol in FIRST_IDS}
    flow.apply(suspend=True)
    flow.wait_phase("Suspended")
    assert not flow.pods("ingest") + flow.pods("sink") + flow.pods("query")
    received = assert_table_is_log(flow)
    assert received.keys() == FIRST_IDS.keys()
    for symbol, first in FIRST_IDS.items():
        assert received[symbol] == [[first, received[symbol][-1][1]]], f"{symbol}: {received[symbol]}"
        assert received[symbol][-1][1] >= sent[symbol], f"{symbol}: expected what was sent before it was suspended"
    flow.apply()
    flow.wait_phase("Running")
    for symbol, first in FIRST_IDS.items():
        last = flow.sent(symbol)

        def arrived(symbol: str = symbol, last: int = last) -> list[int] | None:
            ids = flow.ids(symbol, since)
            return ids if ids and ids[-1] >= last else None

        ids = flow.site.wait(arrived, f"{symbol} {last} in the table")
        assert len(ids) == len(set(ids)), _wrong(first, ids)
        jumps = [(a, b) for a, b in pairwise(ids) if b != a + 1]
        assert ids[0] == first
        assert len(jumps) == 1, f"{symbol}: expected one gap, what was sent while it was suspended; found {jumps}"
        assert jumps[0][0] == received[symbol][-1][1], f"{symbol}: expected the gap after what it had received"


def test_a_missing_secret_is_a_condition_and_touches_nothing(flow: Feed) -> None:
    before = flow.uids()
    flow.site.kubectl("delete", "secret/k2-storage", "--namespace=flow")
    found = flow.site.wait(
        lambda: (one := flow.condition("SecretsReady")).get("status") == "False" and one, "the condition"
    )
    assert "k2-storage" in found["message"]
    assert flow.uids() == before
    flow.site.namespace("flow")
    flow.site.wait(lambda: flow.condition("SecretsReady").get("status") == "True", "the condition to pass")


def test_helm_test_passes_and_delete_leaves_no_child_and_loses_nothing(flow: Feed) -> None:
    flow.site.helm("test", RELEASE, f"--namespace={SYSTEM}", "--timeout=120s")
    sent = {symbol: flow.sent(symbol) for symbol in FIRST_IDS}
    flow.site.kubectl("delete", "k2p", "flow", "--namespace=flow", "--timeout=150s")
    for kind in ("pods", "deployments", "services", "poddisruptionbudgets", "networkpolicies"):
        assert not flow.site.items("flow", kind), kind
    received = assert_table_is_log(flow)
    for symbol, last in sent.items():
        assert flow.sent(symbol) > last, "expected trades while it was deleted"
        assert received[symbol][-1][1] >= last, f"{symbol}: expected what was sent before it was deleted"
