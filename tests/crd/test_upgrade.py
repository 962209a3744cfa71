"""The upgrade of docs/crd-upgrade.md, command by command, after a real `helm install` of an older definition.

In a group of its own, so that the definition that other tests use stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from crds.definition import FILE
from onenode.tools import tool
from support.cluster import ControlPlaneHandle
from support.crd_api import SMALLEST

GROUP: Final = "upgrade.k2.dev"
CRD: Final = f"k2pipelines.{GROUP}"
DOCUMENT: Final = Path(__file__).parents[2] / "docs/crd-upgrade.md"
COMMANDS: Final = re.findall(r"^\$ (.*(?:helm|kubectl).*)$", DOCUMENT.read_text(), re.MULTILINE)
NEWER_FIELDS: Final = ("suspend", "deletionPolicy")
TIMEOUT_S: Final = 120.0


def chart(folder: Path, version: str, definition: dict[str, Any]) -> Path:
    (folder / "crds").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "k2", "version": version}))
    (folder / "crds" / FILE.name).write_text(yaml.safe_dump(definition))
    return folder


def newer() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text().replace("k2.dev\n", f"{GROUP}\n")))


def older() -> dict[str, Any]:
    """A definition without two fields that have defaults today."""
    made = newer()
    spec = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for field in NEWER_FIELDS:
        del spec["properties"][field]
    return made


class Site:
    """A shell with helm, kubectl and a cluster; `charts/k2` stands for the newer chart."""

    def __init__(self, plane: ControlPlaneHandle, folder: Path) -> None:
        self.older, self.newer = chart(folder / "older", "0.0.1", older()), chart(folder / "newer", "0.0.2", newer())
        programs = ":".join(str(tool(name).parent) for name in ("helm", "kubectl"))
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(plane.kubeconfig),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HELM_CACHE_HOME": str(folder / "cache"),
            "HELM_CONFIG_HOME": str(folder / "config"),
            "HELM_DATA_HOME": str(folder / "data"),
        }

    def run(self, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def documented(self, word: str) -> subprocess.CompletedProcess[str]:
        (command,) = [command for command in COMMANDS if word in command]
        return self.run(command.replace("charts/k2", str(self.newer)).replace("k2pipelines.k2.dev", CRD))

    def must(self, command: str, stdin: str = "") -> str:
        done = self.run(command, stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stored(self) -> dict[str, Any]:
        return dict(json.loads(self.must(f"kubectl get {CRD} trades -o json")))

    def serves_newer_fields(self) -> bool:
        return NEWER_FIELDS[0] in self.must(f"kubectl get crd {CRD} -o yaml")


@pytest.fixture
def site(control_plane: ControlPlaneHandle, tmp_path: Path) -> Iterator[Site]:
    made = Site(control_plane, tmp_path)
    yield made
    made.run(f"helm uninstall upgrade; kubectl delete crd {CRD}")


def test_each_step_of_the_document(site: Site) -> None:
    site.must(f"helm install upgrade {site.older}")
    site.must(f"kubectl wait --for=condition=Established --timeout=60s crd/{CRD}")
    pipeline = {**SMALLEST, "apiVersion": f"{GROUP}/v1alpha1"}
    site.must("kubectl create -f -", json.dumps(pipeline))
    before = site.stored()
    assert not before["spec"].keys() & set(NEWER_FIELDS)

    site.must(f"helm upgrade upgrade {site.newer}")
    assert not site.serves_newer_fields(), "expected that Helm leaves the definition alone"

    difference = site.documented("kubectl diff")
    assert difference.returncode == 1, difference.stderr
    assert re.search(r"^\+ +deletionPolicy:", difference.stdout, re.MULTILINE)

    for word in ("kubectl apply", "kubectl wait"):
        done = site.documented(word)
        assert done.returncode == 0, done.stderr
    assert site.serves_newer_fields()

    after = site.stored()
    assert {name: after["spec"][name] for name in NEWER_FIELDS} == {"suspend": False, "deletionPolicy": "Retain"}
    assert {**after["spec"], **before["spec"]} == after["spec"], "what was stored has changed"
    assert after["metadata"] == before["metadata"], "the resource was written"
    assert site.documented("kubectl diff").returncode == 0


def test_without_force_the_first_installation_stands_in_the_way(site: Site) -> None:
    """Why the document says --force-conflicts."""
    site.must(f"helm install upgrade {site.older}")
    refused = site.run(f"helm show crds {site.newer} | kubectl apply --server-side -f -")
    assert refused.returncode != 0
    assert "conflict" in refused.stderr
