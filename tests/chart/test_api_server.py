"""The chart and the manifests on a real API server: accepted to the field, restricted, with the rights they claim."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import yaml

from derived.__main__ import CHART, GOLDEN, ROOT
from support import monitoring
from support.chart import VALUE_SETS, run, tool
from support.cluster import ControlPlaneHandle

RESTRICTED: Final = "pod-security.kubernetes.io/warn=restricted"
_SETTLE: Final = "30s"


@pytest.fixture(scope="module")
def server(control_plane: ControlPlaneHandle) -> ControlPlaneHandle:
    """A control plane that knows all kinds and namespaces of the manifests."""
    files = [*sorted((CHART / "crds").glob("*.yaml")), *monitoring.definitions()]
    arguments = [f"--filename={file}" for file in files]
    succeed(control_plane, "apply", "--server-side", "--force-conflicts", *arguments)
    succeed(control_plane, "wait", "--for=condition=Established", f"--timeout={_SETTLE}", *arguments)
    for namespace in ("k2-system", "team-a", "team-b"):
        make_namespace(control_plane, namespace)
    # A pod, unlike a Deployment, is refused at once when its account is not there.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "k2-test", "namespace": "k2-system"}}
    succeed(control_plane, "apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(account))
    succeed(control_plane, "apply", "--server-side", f"--filename={ROOT / 'manifests/dev/namespace.yaml'}")
    return control_plane


def succeed(server: ControlPlaneHandle, *arguments: str, stdin: str | None = None) -> str:
    done = server.kubectl(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_namespace(server: ControlPlaneHandle, name: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    succeed(server, "apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(manifest))
    succeed(server, "label", "--overwrite", "namespace", name, RESTRICTED)


def dry_run(server: ControlPlaneHandle, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """What the API server says to all of it: unknown fields are errors, what is not restricted is a warning."""
    fixed = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    return server.kubectl(*fixed, *arguments, stdin=stdin)


@pytest.mark.parametrize("values", VALUE_SETS)
def test_it_takes_the_chart(values: str, server: ControlPlaneHandle) -> None:
    done = dry_run(server, f"--filename={GOLDEN / f'{values}.yaml'}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("what", ["--filename=manifests/install.yaml", "--kustomize=manifests/dev"])
def test_it_takes_the_manifests(what: str, server: ControlPlaneHandle) -> None:
    option, _, path = what.partition("=")
    done = dry_run(server, f"{option}={ROOT / path}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "deployment.apps" in done.stdout


def test_it_would_warn_of_a_pod_that_is_not_restricted(server: ControlPlaneHandle) -> None:
    loose = (GOLDEN / "default.yaml").read_text().replace("allowPrivilegeEscalation: false", "privileged: false")
    assert "would violate PodSecurity" in dry_run(server, "--filename=-", stdin=loose).stderr


def test_it_would_refuse_an_unknown_field(server: ControlPlaneHandle) -> None:
    wrong = (GOLDEN / "default.yaml").read_text().replace("revisionHistoryLimit: 5", "revisionHistory: 5")
    assert "revisionHistory" in dry_run(server, "--filename=-", stdin=wrong).stderr


class Release:
    """The chart installed by Helm into a namespace of its own; without a node nothing of it runs."""

    def __init__(self, server: ControlPlaneHandle) -> None:
        self.name = self.namespace = f"chart-{uuid.uuid4().hex[:8]}"
        self._server = server

    def helm(self, command: str, *arguments: str | Path) -> str:
        done = run(
            tool("helm"),
            command,
            self.name,
            *arguments,
            f"--namespace={self.namespace}",
            f"--kubeconfig={self._server.kubeconfig}",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def account(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}-k2-operator"

    def may(self, verb: str, what: str, *arguments: str) -> bool:
        done = self._server.kubectl("auth", "can-i", verb, what, f"--as={self.account}", *arguments)
        assert done.stdout.strip() in {"yes", "no"}, done.stderr
        return done.stdout.strip() == "yes"


@pytest.fixture(scope="module")
def release(server: ControlPlaneHandle) -> Iterator[Release]:
    made = Release(server)
    made.helm("install", CHART, "--create-namespace", "--set", "operator.secretNames={lake}")
    yield made
    made.helm("uninstall", "--wait")
    server.kubectl("delete", "namespace", made.namespace, "--wait=false")


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("create", "deployments.apps", True),
        ("patch", "k2pipelines.k2.dev/crypto", True),
        ("patch", "k2pipelines.k2.dev/crypto --subresource=status", True),
        ("get", "secrets/lake", True),
        ("get", "secrets/other", False),
        ("list", "secrets", False),
        ("watch", "secrets", False),
        ("create", "pods", False),
        ("create", "pods --subresource=exec", False),
        ("create", "serviceaccounts --subresource=token", False),
        ("create", "clusterroles.rbac.authorization.k8s.io", False),
        ("delete", "namespaces", False),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io", False),
    ],
)
def test_the_operator_may_do_its_work_and_no_more(verb: str, what: str, allowed: bool, release: Release) -> None:
    resource, *options = what.split()
    assert release.may(verb, resource, *options, "--namespace=team-a") is allowed


def test_the_notes_say_what_is_missing_and_how_to_uninstall(release: Release) -> None:
    notes = release.helm("status")
    assert "each K2Pipeline must have spec.kafka" in notes
    assert "kubectl delete k2p --all-namespaces --all --wait" in notes
    assert "may read no secret" not in notes


def test_an_upgrade_changes_what_it_should_and_a_rollback_takes_it_back(
    release: Release, server: ControlPlaneHandle
) -> None:
    def resync() -> str:
        name = f"configmap/{release.name}-k2-operator"
        data = succeed(server, "get", name, f"--namespace={release.namespace}", "--output=jsonpath={.data.*}")
        return str(yaml.safe_load(data)["resyncSeconds"])

    before = resync()
    release.helm("upgrade", CHART, "--set", "operator.resyncSeconds=9", "--set", "operator.secretNames={lake}")
    assert (before, resync()) == ("5", "9")
    release.helm("rollback")
    assert resync() == "5"


@pytest.fixture
def ready_operator() -> Iterator[str]:
    """Answers /readyz as the operator does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the standard library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def ask(server: ControlPlaneHandle, account: Path, operator: str) -> subprocess.CompletedProcess[str]:
    """Run what the pod of `helm test` runs, with a service account's token and the cluster's CA."""
    config = yaml.safe_load(server.kubeconfig.read_text())
    authority = config["clusters"][0]["cluster"]
    if "certificate-authority-data" in authority:
        certificate = base64.b64decode(authority["certificate-authority-data"])
    else:
        certificate = Path(authority["certificate-authority"]).read_bytes()
    account.mkdir()
    (account / "ca.crt").write_bytes(certificate)
    (account / "token").write_text(succeed(server, "create", "token", "default", "--namespace=team-a"))
    address = urlsplit(server.server)
    environment = {
        "K2_ACCOUNT_DIR": str(account),
        "K2_OPERATOR_URL": operator,
        "K2_TEST_DEADLINE_SECONDS": "0",
        "KUBERNETES_SERVICE_HOST": str(address.hostname),
        "KUBERNETES_SERVICE_PORT": str(address.port),
    }
    return subprocess.run(
        [sys.executable, "-c", (CHART / "files/test/ready.py").read_text()],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_helm_test_succeeds_when_operator_and_resource_are_there(
    server: ControlPlaneHandle, ready_operator: str, tmp_path: Path
) -> None:
    done = ask(server, tmp_path / "account", ready_operator)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok: operator_is_ready" in done.stdout
    assert "ok: api_server_has_the_resource: k2.dev/v1alpha1 has K2Pipeline" in done.stdout


def test_helm_test_fails_without_an_operator(server: ControlPlaneHandle, tmp_path: Path) -> None:
    done = ask(server, tmp_path / "account", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "failed: operator_is_ready" in done.stdout
    assert "ok: api_server_has_the_resource" in done.stdout
