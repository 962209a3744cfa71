"""The operator with 1, 100 and 1,000 K2Pipelines on a real API server and etcd: how soon a change is done, the cost.

No controllers and no nodes: what is measured is the operator. All pipelines share one Kafka. In the steady state one
pipeline after the other is changed; the time runs from the change sent to the child that has it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import kopf
import psutil
import yaml
from figures import Figure, at_most
from workload import Progress

from k2_cli.stack.kafka import LocalKafka
from k2_cli.stack.ports import find_free
from k2_core.errors import SetupError
from onenode import cluster
from onenode.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
COUNTS = (1, 100, 1_000)
CHANGES = 100
STEADY_S = {1: 600.0, 100: 60.0, 1_000: 60.0}
"""For one pipeline as long as nothing is to be written in; for more, a few times the operator's look at everything."""
PATIENCE_S = 2_400.0
SILENT_S = 15.0
"""Without a write: what came first is written. The last of a hundred statuses came 4 s after the one before it."""
TOLD_EVERY_S = 60.0
SERVICES = "198.18.0.0/16"
"""Each pipeline has one; of a range that no network routes (RFC 2544)."""
PIPELINES = "/apis/k2.dev/v1alpha1/namespaces/default/k2pipelines"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@dataclass
class Bench:
    """A control plane, an operator, and clients of both."""

    api: httpx.Client
    operator: subprocess.Popen[bytes]
    port: int
    replicas: dict[int, int] = field(default_factory=dict)
    """Of the sinks of pipelines that were changed."""

    def figures(self) -> dict[str, float]:
        """The operator's metrics."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text
        return {name: float(value) for name, value in re.findall(r"^(k2_\S+) (\S+)$", text, re.MULTILINE)}

    def requests(self, pattern: str = "") -> float:
        """Requests that the operator sent, by a pattern of verbs."""
        found = self.figures().items()
        return sum(value for name, value in found if "api_requests_total" in name and re.search(pattern, name))

    def writes(self) -> float:
        """Those that write."""
        return self.requests('verb="(apply|patch|create|delete|update)"')

    def create(self, number: int) -> None:
        """Create a pipeline."""
        source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 4}
        body = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": f"p{number}"},
            "spec": {"ingestion": [source]},
        }
        self.api.post(PIPELINES, json=body).raise_for_status()

    def settle(self, count: int, progress: Progress) -> None:
        """Wait until all have their children and nothing has been written for a while."""
        began_s = told_s = written_s = time.monotonic()
        before = self.writes()
        while (now_s := time.monotonic()) - began_s < PATIENCE_S:
            shown = sum(value for name, value in self.figures().items() if name.startswith("k2_operator_pipelines{"))
            if (writes := self.writes()) != before:
                before, written_s = writes, now_s
            if shown >= count and now_s - written_s >= SILENT_S:
                return
            if now_s - told_s >= TOLD_EVERY_S:
                told_s = now_s
                progress(f"{count}: {shown:.0f} pipelines known, {writes:.0f} writes so far")
            time.sleep(1)
        raise SetupError(f"found no steady state with {count} pipelines in {PATIENCE_S:g} s")

    def change(self, number: int) -> float:
        """Change a pipeline; return seconds until its sink's Deployment has it."""
        replicas = self.replicas[number] = 5 - self.replicas.get(number, 3)
        patch = {"spec": {"sink": {"replicas": replicas}}}
        began_s = time.monotonic()
        headers = {"Content-Type": "application/merge-patch+json"}
        self.api.patch(f"{PIPELINES}/p{number}", content=json.dumps(patch), headers=headers).raise_for_status()
        while time.monotonic() < began_s + PATIENCE_S:
            body = self.api.get(f"{DEPLOYMENTS}/p{number}-sink").raise_for_status().json()
            if body["spec"]["replicas"] == replicas:
                return time.monotonic() - began_s
            time.sleep(0.005)
        raise SetupError(f"p{number}: found no {replicas} replicas in {PATIENCE_S:g} s")

    def memory_mib(self) -> float:
        """The operator's resident memory."""
        return float(psutil.Process(self.operator.pid).memory_info().rss / 2**20)


def run(progress: Progress) -> list[Figure]:
    """Measure with more and more pipelines."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="k2-reconcile-") as name, started(Path(name), progress) as bench:
        made = 0
        for count in COUNTS:
            began_s = time.monotonic()
            for number in range(made, count):
                bench.create(number)
            made = count
            bench.settle(count, progress)
            taken_s = time.monotonic() - began_s - SILENT_S
            progress(f"{count}: all children after {taken_s:.0f} s, {bench.memory_mib():.0f} MiB")
            figures += measured(bench, count)
            progress(", ".join(f"{figure.metric}: {figure.value:.3g} {figure.unit}" for figure in figures[-6:]))
    return figures


def measured(bench: Bench, count: int) -> list[Figure]:
    """Return the figures with so many pipelines."""
    requests, writes, cpu_s = bench.requests(), bench.writes(), _cpu_s(bench)
    time.sleep(steady_s := STEADY_S[count])
    idle_requests, idle_writes = bench.requests() - requests, bench.writes() - writes
    idle_cpu = (_cpu_s(bench) - cpu_s) / steady_s
    requests, began_s = bench.requests(), time.monotonic()
    spent = [bench.change(number * max(1, count // CHANGES) % count) for number in range(CHANGES)]
    rate = (bench.requests() - requests) / (time.monotonic() - began_s)
    quantiles = statistics.quantiles(spent, n=100)
    label = f"{count:,} pipelines"
    return [
        Figure("reconcile", f"{label}: change to child, p50", quantiles[49], "s"),
        at_most("reconcile", f"{label}: change to child, p99", quantiles[98], "s", 1.0),
        Figure("reconcile", f"{label}: API requests while changing", rate, "1/s"),
        Figure("reconcile", f"{label}: API requests, steady", idle_requests / steady_s, "1/s"),
        at_most("reconcile", f"{label}: writes in {steady_s:.0f} s, steady", idle_writes, "", 0),
        at_most("reconcile", f"{label}: operator RSS", bench.memory_mib(), "MiB", 400),
        Figure("reconcile", f"{label}: operator CPU, steady", idle_cpu, "cores"),
    ]


def _cpu_s(bench: Bench) -> float:
    times = psutil.Process(bench.operator.pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def started(folder: Path, progress: Progress) -> Iterator[Bench]:
    """Start Kafka, control plane and operator; end them."""
    kafka = LocalKafka(folder / "kafka", progress=progress)
    (folder / "kafka").mkdir()
    kafka.start()
    try:
        with (
            control_plane(folder / "cluster", progress) as kubeconfig,
            operator(folder, kubeconfig, kafka) as (process, port),
            api_client(kubeconfig) as client,
        ):
            yield Bench(client, process, port)
    finally:
        kafka.stop()


@contextmanager
def control_plane(folder: Path, progress: Progress) -> Iterator[Path]:
    """API server and etcd with the resource definition, which die with this process, however it ends.

    The controllers are stopped: they would make 3,000 pods that nothing runs, on the processors that the operator is
    measured on.
    """
    made = cluster.up_control_plane(folder, bound=True, say=progress, services=SERVICES)
    try:
        Processes(folder).stop("kube-controller-manager")
        kubeconfig = Path(made.kubeconfig)
        with api_client(kubeconfig) as client:
            _install(client)
        yield kubeconfig
    finally:
        cluster.down(folder)


def _install(client: httpx.Client) -> None:
    for file in (ROOT / "charts/k2/crds").glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        client.post(path, json=definition).raise_for_status()
    deadline_s = time.monotonic() + 60
    while client.get(PIPELINES).status_code != 200:
        if time.monotonic() > deadline_s:
            raise SetupError("found no k2pipelines served within 60 s")
        time.sleep(0.2)


@contextmanager
def operator(folder: Path, kubeconfig: Path, kafka: LocalKafka) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """An operator of its own process."""
    port = find_free(str(folder))
    config: Mapping[str, Any] = {
        "defaults": {
            "kafka": {"bootstrapServers": kafka.bootstrap_servers, "replicationFactor": 1},
            "storage": {"catalog": {"type": "rest", "uri": "http://catalog:8181"}, "warehouse": "s3://k2/lake"},
        },
        "listenHost": "127.0.0.1",
        "metricsPort": port,
    }
    (folder / "operator.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {"KUBECONFIG": str(kubeconfig), "K2_OPERATOR_CONFIG": str(folder / "operator.yaml")}
    with (folder / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "k2_operator"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _await_ready(process, port, folder / "operator.log")
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SetupError(f"found no operator that is ready: {log.read_text()[-500:]}")


def api_client(kubeconfig: Path) -> httpx.Client:
    """A client of the API server as its administrator."""
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    try:
        info = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    finally:
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before
    if info is None:
        raise SetupError(f"{kubeconfig}: found no credentials, expected the administrator's")
    return httpx.Client(base_url=info.server, verify=info.as_ssl_context(), timeout=60)
