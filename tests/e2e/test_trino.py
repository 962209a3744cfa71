"""A Trino that the operator runs, on a real cluster: it comes and goes under load, and nodes of it are killed."""

from __future__ import annotations

import copy
import json
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from k2_operator.rendering.trino_config import SHUTDOWN_GRACE_S
from onenode import trino_image
from onenode.servers import Servers
from support.feed import Feed, container
from support.lacking import needed
from support.site import SYSTEM, Site
from support.steady_load import SteadyLoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

NAME = "trino"
SYMBOL = "BTCUSDT"
FIRST_ID = 1_000
ROWS = 500
"""Of an answer: some ten seconds of trades."""
GRACE_S = 90
"""What a worker may take for its queries' end: three times what Trino takes without any."""
SMALL = {"requests": {"cpu": "300m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
SINK = {"commitIntervalSeconds": 10}
DISTRIBUTED: dict[str, Any] = {
    "mode": "distributed",
    "trinoCluster": {
        "coordinator": {"resources": SMALL},
        "workers": {"replicas": 2, "resources": SMALL},
        "cacheSize": "1Gi",
        "gracePeriodSeconds": GRACE_S,
    },
}
MAINTENANCE = {"schedule": "0 3 1 1 *", "snapshotRetentionDays": 1}
"""Once a year, so that it is the test that says when."""
COMING_S = 600.0
"""Two JVMs and more on two cores."""
TRINO_KINDS = ("deployments", "services", "configmaps", "networkpolicies", "poddisruptionbudgets", "serviceaccounts")


@pytest.fixture(scope="module")
def flow(site: Site, servers: Servers) -> Feed:
    """A pipeline that reads with DuckDB, and takes trades with ids one after the other."""
    with needed("Trino's image"):
        trino_image.java_home()
    servers.stop(["exchange"])
    options = ["--symbols", SYMBOL, "--rate", "50", "--first-id", f"{SYMBOL}={FIRST_ID}"]
    servers.up(["exchange"], exchange=options)
    site.namespace(NAME)
    site.trino_secrets(NAME)
    feed = Feed(site, NAME, (SYMBOL,))
    feed.apply(sink=SINK)
    feed.wait_phase("Running")
    first = datetime.now(UTC) - timedelta(hours=1)
    site.wait(lambda: len(feed.ids(SYMBOL, first) or ()) > ROWS, "the first trades in the table")
    return feed


@pytest.fixture(scope="module")
def since() -> datetime:
    """Before the first trade of the module."""
    return datetime.now(UTC) - timedelta(minutes=1)


def load(flow: Feed, since: datetime) -> SteadyLoad:
    """The first trades of a window that grows at its end all the time, in the table and the log."""
    end = since + timedelta(hours=2)
    return SteadyLoad(flow, "/v1/trades", {"symbol": SYMBOL, "start": _iso(since), "end": _iso(end), "limit": ROWS})


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def assert_no_answer_was_short(asked: SteadyLoad) -> None:
    """Each answer is the first trades, none left out and none twice, or says what it lacks or why it is none."""
    for one in asked.outcomes:
        if one.status != 200:
            assert isinstance(one.body, dict), one
            assert one.body["type"].startswith("urn:k2:problem:"), one
            continue
        if not one.body["meta"]["complete"]:
            assert one.body["meta"]["incomplete_ranges"], one.body["meta"]
            continue
        assert [int(row["trade_id"]) for row in one.body["data"]] == list(range(FIRST_ID, FIRST_ID + ROWS))
    assert any(one.status == 200 for one in asked.outcomes)


def engine(flow: Feed) -> str:
    return str(flow.status.get("query", {}).get("engine"))


def arrived(flow: Feed) -> bool:
    return engine(flow) == "distributed" and all(
        flow.condition(kind).get("status") == "True" for kind in ("TrinoReady", "QueryReady")
    )


def health(flow: Feed) -> dict[str, Any]:
    """What /health says, be it well or not."""
    service = flow.site.get(flow.name, "service", f"{flow.name}-query")
    assert service is not None
    done = flow.site.run("curl", "--silent", "--max-time", "10", f"http://{service['spec']['clusterIP']}/health")
    return dict(json.loads(done.stdout))


def trino_pods(flow: Feed) -> list[dict[str, Any]]:
    return flow.pods("trino-coordinator") + flow.pods("trino-worker")


def test_trino_comes_under_load_and_no_request_fails(site: Site, flow: Feed, since: datetime) -> None:
    with load(flow, since) as asked:
        flow.apply(sink=SINK, query=DISTRIBUTED, maintenance=MAINTENANCE)
        site.wait(lambda: trino_pods(flow), "Trino's pods")
        assert engine(flow) == "single"
        site.kill(site.items(SYSTEM, "pods", "app.kubernetes.io/component=operator")[0])
        site.wait(lambda: arrived(flow), "Trino to answer", COMING_S)
        flow.wait_phase("Running")
    assert not asked.failed, asked.failed[:3]
    assert_no_answer_was_short(asked)
    assert health(flow)["checks"]["trino"] == "ok"


def test_a_killed_worker_makes_no_answer_short(site: Site, flow: Feed, since: datetime) -> None:
    with load(flow, since) as asked:
        site.wait(lambda: asked.outcomes and asked.outcomes[-1].status == 200, "an answer")
        pod = flow.pods("trino-worker")[0]
        # It stands first, so that a statement certainly waits for it when it dies.
        site.signal(pod, signal.SIGSTOP)
        since_when = site.wait(lambda: asked.waiting(2.0), "a statement that waits for the worker")
        site.kill(pod)
        site.wait(lambda: asked.asked_at != since_when, "its answer")
        before = len(asked.outcomes)
        site.wait(lambda: len(asked.outcomes) > before + 10, "answers meanwhile")
        site.wait(lambda: all(container(one).get("ready") for one in trino_pods(flow)), "the worker", COMING_S)
        again = len(asked.outcomes)
        site.wait(lambda: any(one.status == 200 for one in asked.outcomes[again:]), "an answer again")
    assert_no_answer_was_short(asked)
    [waited] = [one for one in asked.outcomes if one.asked_at == since_when]
    assert waited.status == 200 or waited.body["type"].startswith("urn:k2:problem:"), waited


def test_a_worker_that_is_no_longer_asked_for_ends_when_its_queries_have(
    site: Site, flow: Feed, since: datetime
) -> None:
    before = {pod["metadata"]["uid"] for pod in trino_pods(flow)}
    fewer = copy.deepcopy(DISTRIBUTED)
    fewer["trinoCluster"]["workers"]["replicas"] = 1
    with load(flow, since) as asked:
        flow.apply(sink=SINK, query=fewer, maintenance=MAINTENANCE)
        [ending] = site.wait(lambda: flow.ending("trino-worker"), "one to be told to end")
        began = time.monotonic()
        site.wait(lambda: not flow.ending("trino-worker"), "it to be gone", 2 * GRACE_S)
        took_s = time.monotonic() - began
        again = len(asked.outcomes)
        site.wait(lambda: len(asked.outcomes) > again + 5, "answers by the one that is left")
    assert not asked.failed, asked.failed[:3]
    assert_no_answer_was_short(asked)
    left = {pod["metadata"]["uid"] for pod in trino_pods(flow)}
    assert left == before - {ending["metadata"]["uid"]}  # nor was a coordinator started anew
    assert SHUTDOWN_GRACE_S <= took_s < GRACE_S  # it ended by itself, and was not killed when its time was over
    flow.wait_phase("Running")
    flow.apply(sink=SINK, query=DISTRIBUTED, maintenance=MAINTENANCE)
    site.wait(lambda: len(trino_pods(flow)) == 3, "the worker to come back")
    site.wait(lambda: all(container(one).get("ready") for one in trino_pods(flow)), "the worker", COMING_S)


def test_a_coordinator_that_is_made_anew_is_found_and_its_absence_said(site: Site, flow: Feed, since: datetime) -> None:
    queries = flow.uids()
    with load(flow, since) as asked:
        pod = flow.pods("trino-coordinator")[0]["metadata"]["name"]
        site.kubectl("delete", "pod", pod, f"--namespace={flow.name}", "--wait=false")
        said = site.wait(lambda: (found := health(flow)["checks"]["trino"]) != "ok" and found, "/health to say it")
        assert f"Trino at https://{NAME}-trino.{NAME}.svc:8443" in said
        site.wait(lambda: flow.condition("TrinoReady").get("status") == "False", "the condition")
        site.wait(lambda: health(flow)["checks"]["trino"] == "ok", "Trino to answer", COMING_S)
        again = len(asked.outcomes)
        site.wait(lambda: any(one.status == 200 for one in asked.outcomes[again:]), "an answer again")
    assert asked.failed
    assert_no_answer_was_short(asked)
    assert flow.uids() == queries
    flow.wait_phase("Running")


def test_a_job_of_the_cron_job_maintains_the_tables_while_data_flows(site: Site, flow: Feed, since: datetime) -> None:
    where, job = f"--namespace={flow.name}", "maintenance-now"
    with load(flow, since) as asked:
        site.kubectl("create", "job", job, f"--from=cronjob/{NAME}-maintenance", where)

        def ended() -> str | None:
            status = (site.get(flow.name, "job", job) or {}).get("status", {})
            kinds = [one["type"] for one in status.get("conditions", ()) if one["status"] == "True"]
            return next((kind for kind in kinds if kind in {"Complete", "Failed"}), None)

        kind = site.wait(ended, "the job's end", COMING_S)
        log = site.kubectl("logs", f"job/{job}", where)
    assert kind == "Complete", log
    said = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert (said[-1]["message"], said[-1]["failed"]) == ("done", 0)
    done = {(one["table"], one["action"]) for one in said if "action" in one}
    assert done >= {("trades", "expire_snapshots"), ("trades", "remove_orphan_files")}, log
    assert not asked.failed, asked.failed[:3]
    assert_no_answer_was_short(asked)


def test_trino_goes_under_load_and_no_request_fails(site: Site, flow: Feed, since: datetime) -> None:
    with load(flow, since) as asked:
        flow.apply(sink=SINK)
        site.wait(lambda: engine(flow) == "single", "DuckDB to be due")
        site.wait(lambda: not trino_pods(flow), "Trino to go", COMING_S)
        flow.wait_phase("Running")
    assert not asked.failed, asked.failed[:3]
    assert_no_answer_was_short(asked)
    left = [one["metadata"]["name"] for kind in TRINO_KINDS for one in site.items(flow.name, kind)]
    assert [name for name in left if name.startswith(f"{NAME}-trino")] == []
    assert not flow.condition("TrinoReady")


def test_a_pipeline_that_begins_with_trino_is_deleted_with_it(site: Site, flow: Feed) -> None:
    flow.apply(sink=SINK, query=DISTRIBUTED, maintenance=MAINTENANCE)
    site.wait(lambda: arrived(flow), "Trino to answer", COMING_S)
    site.kubectl("delete", "k2p", flow.name, f"--namespace={flow.name}", "--timeout=200s")
    for kind in ("pods", *TRINO_KINDS[:3]):
        names = [one["metadata"]["name"] for one in site.items(flow.name, kind)]
        assert [name for name in names if name.startswith(f"{NAME}-")] == [], kind
