"""An operator as a process beside a real API server and a real Kafka: start, kill, look, wait."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_cli.stack.ports import find_free
from support.cluster import ControlPlaneHandle

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 90.0
Found = TypeVar("Found")


@dataclass
class Operated:
    """A namespace and the operators in it.

    Args:
        control_plane: The cluster.
        namespace: Of the test.
        bootstrap_servers: Kafka.
        folder: For configuration and logs.
    """

    control_plane: ControlPlaneHandle
    namespace: str
    bootstrap_servers: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0
    api_port: int | None = None
    """Where operators reach the API server, if not where it listens."""

    # The operator.

    def configure(self, **more: object) -> Path:
        """Write the operator's configuration."""
        self.port = self.port or find_free(str(self.folder))
        document = {
            "defaults": {
                "kafka": {"bootstrapServers": self.bootstrap_servers, "replicationFactor": 1},
                "storage": {"catalog": {"type": "rest", "uri": "http://catalog:8181"}, "warehouse": "s3://k2/lake"},
            },
            "watchNamespaces": [self.namespace],
            "resyncSeconds": 1,
            "listenHost": "127.0.0.1",
            "metricsPort": self.port,
            **more,
        }
        file = self.folder / "operator.yaml"
        file.write_text(yaml.safe_dump(document))
        return file

    def start(self, **more: object) -> subprocess.Popen[bytes]:
        """Start an operator and wait until it knows the cluster."""
        process = self.launch(**more)
        self.wait(lambda: self.probe("readyz") == 200 or process.poll() is not None, "an operator that is ready")
        assert process.poll() is None, self.log()
        return process

    def launch(self, **more: object) -> subprocess.Popen[bytes]:
        """Start an operator."""
        environment = os.environ | {
            "KUBECONFIG": str(self._kubeconfig()),
            "K2_OPERATOR_CONFIG": str(self.configure(**more)),
        }
        log = (self.folder / f"operator-{len(self.processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "k2_operator"], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def _kubeconfig(self) -> Path:
        if self.api_port is None:
            return self.control_plane.kubeconfig
        return moved(self.control_plane.kubeconfig, self.folder / "kubeconfig", f"https://127.0.0.1:{self.api_port}")

    def kill(self) -> None:
        """Kill -9 the operator that runs."""
        self.processes[-1].kill()
        self.processes[-1].wait()

    def log(self) -> str:
        """What the newest operator wrote."""
        return (self.folder / f"operator-{len(self.processes) - 1}.log").read_text()

    def probe(self, name: str) -> int:
        """Status of a probe, 0 without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=PATIENCE_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def complaint(self, probe: str) -> str:
        """What a probe that is not content says, "" if it is."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{probe}", timeout=PATIENCE_S).close()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        return ""

    def metrics(self) -> dict[str, float]:
        """The operator's figures by name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        found = re.findall(r"^(k2_\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def writes(self) -> float:
        """How many writing requests the operator has sent."""
        return sum(
            value
            for name, value in self.metrics().items()
            if "api_requests_total" in name and re.search(r'verb="(apply|patch|create|delete|update)"', name)
        )

    # The cluster.

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace; it has to succeed."""
        done = self.control_plane.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, or None."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def apply(self, name: str = "crypto", **spec: object) -> dict[str, Any]:
        """Apply a pipeline."""
        source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 2}
        document = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"namespace": self.topics_prefix, "ingestion": [source], **spec},
        }
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(document))
        return document

    @property
    def topics_prefix(self) -> str:
        """What the pipelines of this test prefix their topics with."""
        return self.namespace.replace("-", "_")

    @property
    def topic(self) -> str:
        """The trades topic of this test."""
        return f"{self.topics_prefix}.crypto.trades.binance"

    def patch(self, kind: str, name: str, patch: Mapping[str, Any], *more: str) -> None:
        """Merge a patch."""
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(patch), *more)

    def phase(self, name: str = "crypto") -> str:
        """A pipeline's phase, "" without."""
        body = self.get("k2pipeline", name)
        return str((body or {}).get("status", {}).get("phase", ""))

    def condition(self, kind: str, name: str = "crypto") -> dict[str, Any]:
        """A pipeline's condition, {} without."""
        found = (self.get("k2pipeline", name) or {}).get("status", {}).get("conditions", [])
        return next((one for one in found if one["type"] == kind), {})

    def replicas(self, name: str) -> int | None:
        """What a Deployment is asked for; None without one."""
        body = self.get("deployment", name)
        return None if body is None else int(body["spec"]["replicas"])

    def wait(self, condition: Callable[[], Found], what: str, patience_s: float = PATIENCE_S) -> Found:
        """Wait until a condition holds; return what it returned."""
        deadline_s = time.monotonic() + patience_s
        while not (found := condition()):
            assert time.monotonic() < deadline_s, f"found no {what} within {patience_s:g} s\n{self.log()[-3000:]}"
            time.sleep(0.1)
        return found

    def tend(self, *components: str) -> None:
        """Say of the pods of components what a kubelet would say once they are ready; there is none here."""
        chosen = f"app.kubernetes.io/component in ({','.join(components)})"
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        for pod in json.loads(self.kubectl("get", "pods", "-l", chosen, "-o", "json"))["items"]:
            if pod["status"].get("phase") != "Running":
                self.patch("pod", pod["metadata"]["name"], ready, "--subresource=status")

    # Kafka.

    def produce(self, count: int) -> None:
        """Write records to the trades topic, partition 0."""
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        for _ in range(count):
            producer.produce(self.topic, b"x", partition=0)
        assert producer.flush(20) == 0

    def commit(self, offset: int, name: str = "crypto") -> None:
        """Write what the sink writes after a commit."""
        group = f"k2.{self.topics_prefix}.{name}.committed"
        metadata = '{"committed_at":"2026-01-01T00:00:00Z","newest_event_time":null}'
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        request = [ConsumerGroupTopicPartitions(group, [TopicPartition(self.topic, 0, offset, metadata)])]
        for future in admin.alter_consumer_group_offsets(request).values():
            future.result(20)

    def partitions(self) -> int:
        """Of the trades topic; 0 without."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        found = admin.list_topics(timeout=20).topics.get(self.topic)
        return 0 if found is None else len(found.partitions)

    def close(self) -> None:
        """End the operators, free pipelines of their finalizer, delete namespace and topics."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        names = self.kubectl("get", "k2pipelines", "-o", "name").split()
        for name in names:
            self.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        self.control_plane.kubectl("delete", "namespace", self.namespace, "--wait=false")
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        own = [topic for topic in admin.list_topics(timeout=20).topics if topic.startswith(self.topics_prefix)]
        if own:
            for future in admin.delete_topics(own).values():
                future.result(20)


def with_token(kubeconfig: Path, to: Path, token: str) -> Path:
    """Write a kubeconfig of somebody with this token and nothing else."""
    document = yaml.safe_load(kubeconfig.read_text())
    for one in document["users"]:
        one["user"] = {"token": token}
    to.write_text(yaml.safe_dump(document))
    return to


def moved(kubeconfig: Path, to: Path, server: str) -> Path:
    """Write a kubeconfig that leads to another address."""
    document = yaml.safe_load(kubeconfig.read_text())
    for one in document["clusters"]:
        one["cluster"]["server"] = server
    to.write_text(yaml.safe_dump(document))
    return to
