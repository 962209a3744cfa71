"""Fixtures of the operator's tests: a control plane with the resource definition, a namespace a test, operators."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from support.cluster import ControlPlaneHandle
from support.operated import ROOT, Operated
from support.waiting import wait_until


@pytest.fixture(scope="session")
def installed(control_plane: ControlPlaneHandle) -> ControlPlaneHandle:
    """The control plane with the resource definition."""
    # By force: other tests of the same API server may have installed it under another name.
    done = control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "charts/k2/crds"))
    assert done.returncode == 0, done.stderr
    established = '{.status.conditions[?(@.type=="Established")].status}'

    def is_established() -> bool:
        # Not `kubectl wait`: it gives up at once where the API server has not written any condition yet.
        found = control_plane.kubectl("get", "crd/k2pipelines.k2.dev", "--output", f"jsonpath={established}")
        return found.returncode == 0 and found.stdout == "True"

    wait_until(is_established, "the resource definition to be established")
    return control_plane


@pytest.fixture
def namespace(control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A namespace of the test's own, in a cluster to which the environment leads."""
    name = f"op-{uuid.uuid4().hex[:8]}"
    assert control_plane.kubectl("create", "namespace", name).returncode == 0
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def operated(installed: ControlPlaneHandle, kafka: LocalKafka, tmp_path: Path) -> Iterator[Operated]:
    """A namespace with a Kafka, in which a test starts and kills operators."""
    namespace = f"op-{uuid.uuid4().hex[:8]}"
    assert installed.kubectl("create", "namespace", namespace).returncode == 0
    made = Operated(installed, namespace, kafka.bootstrap_servers, tmp_path)
    yield made
    made.close()
