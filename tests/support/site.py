"""A whole K2 on a real one-node cluster, for the end-to-end tests: kubectl, helm and the API from inside its network.

Made once a session by tests/e2e/conftest.py; the cluster itself is hack/onenode's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from k2_cli.trino_secrets import manifests
from k2_core.spec import parse_pipeline
from onenode import images
from onenode.node import places
from onenode.tools import tool

CHART: Final = Path(__file__).parents[2] / "charts" / "k2"
PREVIOUS_CHART: Final = Path(__file__).parents[1] / "data" / "chart" / "previous.tgz"
"""The chart of before the newest changes, as `helm package` made it: what upgrades are tested from."""
RELEASE: Final = "k2"
SYSTEM: Final = "k2-system"
STORAGE_SECRET: Final = "k2-storage"  # noqa: S105  # its name
KEYS_SECRET: Final = "k2-api-keys"  # noqa: S105  # its name
TRINO_ACCESS_SECRET: Final = "k2-trino-access"  # noqa: S105  # its name
TRINO_TLS_SECRET: Final = "k2-trino-tls"  # noqa: S105  # its name
API_KEY: Final = "e2e.0123456789abcdef0123456789abcdef"
TIMEOUT_S: Final = 180.0
_COMMAND_TIMEOUT_S: Final = 240.0
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Site:
    """A running cluster.

    Args:
        directory: The cluster's folder.
        name: Of the cluster.
        kubeconfig: The administrator's.
        enter: Put before a command to run it inside the cluster's network.
        reached: How pods reach the servers beside the cluster, see `onenode.servers.describe`.
    """

    directory: Path
    name: str
    kubeconfig: Path
    enter: Sequence[str]
    reached: Mapping[str, str]

    def run(self, *command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside the cluster's network; the caller looks at its status."""
        return subprocess.run(
            [*self.enter, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints; it must succeed."""
        done = self.run(str(tool("kubectl")), *arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def helm(self, *arguments: str) -> str:
        """What helm prints; it must succeed."""
        done = self.run(str(tool("helm")), *arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply manifests."""
        self.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))

    def get(self, namespace: str, *what: str) -> dict[str, Any] | None:
        """An object, or None if there is none."""
        text = self.kubectl("get", f"--namespace={namespace}", "--ignore-not-found", "--output=json", *what)
        return dict(json.loads(text)) if text.strip() else None

    def items(self, namespace: str, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """The objects of a kind."""
        chosen = [f"--selector={selector}"] if selector else []
        text = self.kubectl("get", f"--namespace={namespace}", "--output=json", kind, *chosen)
        return list(json.loads(text)["items"])

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """A JSON document over HTTP from inside the network, or None while nobody answers well."""
        options = [part for name, value in (headers or {}).items() for part in ("--header", f"{name}: {value}")]
        done = self.run("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "30", *options, url)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Wait for a condition and return its value; a failure says what the pods were at."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}\n{self.report()}"
            time.sleep(_POLL_S)
        return found

    def report(self) -> str:
        """Pipelines, pods and events, for a failed test."""
        pods = self.run(str(tool("kubectl")), "get", "k2p,pods", "--all-namespaces", "--output=wide").stdout
        events = self.run(str(tool("kubectl")), "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp").stdout
        status = self.run(str(tool("kubectl")), "get", "k2p", "--all-namespaces", "--output=yaml").stdout
        return "\n".join([pods, *events.splitlines()[-30:], status[-6000:]])

    def kill(self, pod: Mapping[str, Any]) -> None:
        """`kill -9` the main process of a pod's container, as a crash would."""
        self.signal(pod, signal.SIGKILL)

    def signal(self, pod: Mapping[str, Any], number: signal.Signals) -> None:
        """Send a signal to the main process of a pod's container."""
        container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        socket = places(self.directory, self.name).containerd_socket
        listing = self.run(str(tool("ctr")), f"--address={socket}", "--namespace=k8s.io", "task", "list").stdout
        rows = [line.split() for line in listing.splitlines()]
        os.kill(next(int(row[1]) for row in rows if row and row[0] == container), number)

    def tag(self, image: str, new: str) -> None:
        """Give an image that is on the node another name, with the same tag."""
        places_ = places(self.directory, self.name)
        names = [images.reference(name.removeprefix("k2-")) for name in (image, new)]
        command = [str(tool("ctr")), f"--address={places_.containerd_socket}", "--namespace=k8s.io", "images", "tag"]
        done = self.run(*command, "--force", *names)
        assert done.returncode == 0, done.stderr

    def install(self) -> None:
        """Install the chart with the servers beside the cluster as every pipeline's defaults."""
        secret = {"name": STORAGE_SECRET}
        values = {
            "defaults": {
                "kafka": {
                    "bootstrapServers": self.reached["kafka_bootstrap"],
                    "schemaRegistryUrl": self.reached["registry_url"],
                    "replicationFactor": 1,
                },
                "storage": {
                    "catalog": {"type": "sql", "uriSecret": secret | {"key": "catalog-uri"}},
                    "warehouse": self.reached["s3_warehouse"],
                    "s3": {
                        "endpoint": self.reached["s3_endpoint"],
                        "accessKeySecret": secret | {"key": "access-key"},
                        "secretKeySecret": secret | {"key": "secret-key"},
                    },
                },
                "apiKeySecret": {"name": KEYS_SECRET, "key": "keys"},
                "trino": {"accessSecretName": TRINO_ACCESS_SECRET, "tlsSecretName": TRINO_TLS_SECRET},
            },
            "operator": {"secretNames": [STORAGE_SECRET, KEYS_SECRET, TRINO_ACCESS_SECRET, TRINO_TLS_SECRET]},
        }
        file = self.directory / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        options = [f"--namespace={SYSTEM}", "--create-namespace", f"--values={file}", "--wait", "--timeout=180s"]
        self.helm("install", RELEASE, str(CHART), *options)

    def upgrade(self, *options: str, chart: Path = CHART) -> None:
        """Upgrade the release as docs/chart.md says: the chart's definition, then the chart with the values so far."""
        definition = self.helm("show", "crds", str(chart))
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=definition)
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/k2pipelines.k2.dev")
        self.helm(
            "upgrade",
            RELEASE,
            str(chart),
            f"--namespace={SYSTEM}",
            "--reset-then-reuse-values",
            "--wait",
            "--timeout=180s",
            *options,
        )

    def revision(self) -> int:
        """How often the release was installed or upgraded."""
        return int(json.loads(self.helm("list", f"--namespace={SYSTEM}", "--output=json"))[0]["revision"])

    def namespace(self, name: str) -> None:
        """Make a namespace in which only restricted pods are admitted, with the secrets that pipelines refer to."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        storage = {
            "catalog-uri": self.reached["catalog_uri"],
            "access-key": self.reached["s3_access_key"],
            "secret-key": self.reached["s3_secret_key"],
        }
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
            _secret(name, STORAGE_SECRET, storage),
            _secret(name, KEYS_SECRET, {"keys": API_KEY}),
        )

    def trino_secrets(self, name: str) -> None:
        """Make what a pipeline's own Trino asks for: passwords, and a certificate for its name."""
        source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
        pipeline = {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": name, "namespace": name},
            "spec": {"ingestion": [source], "query": {"mode": "distributed"}},
        }
        self.apply(*manifests(parse_pipeline(pipeline), access_name=TRINO_ACCESS_SECRET, tls_name=TRINO_TLS_SECRET))


def _secret(namespace: str, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}
