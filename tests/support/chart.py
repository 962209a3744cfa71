"""The chart as tests see it: rendered, parsed, and the tools that judge it.

Tools are found or built as `hack/cluster tool` does it; a machine that cannot is a failure under CI, else a skip.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from derived.__main__ import CHART, NAMESPACE, VALUES
from onenode import tools
from support.lacking import needed

ROOT: Final = CHART.parents[1]
ALERT_FILES: Final = tuple(sorted((CHART / "files/alerts").glob("*.yaml")))
DASHBOARDS: Final = tuple(sorted((CHART / "files/dashboards").glob("*.json")))
VALUE_SETS: Final = tuple(sorted(path.stem for path in VALUES.glob("*.yaml")))

Manifest = Mapping[str, Any]


@cache
def tool(name: str) -> str:
    """Return the path of a program; the first call may build it, which takes minutes and says so."""
    with needed(name):
        return str(tools.tool(name))


def run(*command: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; the caller looks at status and output."""
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Render the chart as the release k2."""
    return run(tool("helm"), "template", "k2", CHART, "--namespace", NAMESPACE, *arguments)


@cache
def rendered(*arguments: str) -> Sequence[Manifest]:
    """Return the manifests of the chart with helm's arguments; it must render."""
    done = template(*arguments)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def value_set(name: str) -> Sequence[Manifest]:
    """Return the manifests with the values of tests/chart/values/<name>.yaml."""
    return rendered("--values", str(VALUES / f"{name}.yaml"))


def parse(text: str) -> Sequence[Manifest]:
    """Return all documents of a YAML stream that are not empty."""
    return tuple(document for document in yaml.safe_load_all(text) if document)


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    """Return those of the kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def name_of(manifest: Manifest) -> str:
    """Return `Kind/name`."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield each pod's manifest, whether it stands alone or is a template, with the name of what holds it."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield name_of(manifest), manifest
        elif "template" in (spec := manifest.get("spec") or {}):
            yield name_of(manifest), spec["template"]
