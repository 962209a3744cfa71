"""What is made from the chart: its README and part of its schema, manifests/install.yaml, the golden manifests.

Run by `hack/render`; tests/chart calls `artifacts` and `difference`. Owns the list of these files and how each is made.
Its tools come from the same cache as those of `hack/cluster`. Never talks to a cluster.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from k2_core.spec import KafkaSpec, StorageSpec
from onenode.tools import tool

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts/k2"
GOLDEN: Final = ROOT / "tests/chart/golden"
VALUES: Final = ROOT / "tests/chart/values"
NAMESPACE: Final = "k2-system"
KUBERNETES_VERSION: Final = "1.35.0"
"""Of the capabilities that templates may ask for; fixed, so that a new helm changes nothing."""
_INSTALL_HEADER: Final = """\
# K2's operator with the chart's default values, its custom resource and its namespace, for those without Helm:
#   kubectl apply --server-side -f manifests/install.yaml
# Made by `hack/render install`; the images must be on the nodes, or set image.registry and render again.
---
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels:
    app.kubernetes.io/part-of: k2
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest
    pod-security.kubernetes.io/warn: restricted
"""


def run(*command: str | Path) -> str:
    """Return what a command prints.

    Raises:
        SystemExit: It failed; with its words.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"render: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def template(*arguments: str | Path) -> str:
    """Return the chart's manifests for a release `k2`, without the custom resource unless it is asked for."""
    fixed = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES_VERSION)
    return run(tool("helm"), "template", "k2", CHART, *fixed, *arguments)


def schema() -> str:
    """Return values.schema.json, with `defaults.kafka` and `defaults.storage` shaped as the pipeline spec has them."""
    document: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    definitions = {name: part for name, part in document["$defs"].items() if name[0].islower()}
    for model in (KafkaSpec, StorageSpec):
        shape = model.model_json_schema(by_alias=True)
        definitions |= shape.pop("$defs", {})
        definitions[model.__name__] = shape
    document["$defs"] = {name: _plain(definitions[name]) for name in sorted(definitions)}
    return json.dumps(document, indent=2) + "\n"


def _plain(node: Any) -> Any:
    """Leave out titles and defaults: the first repeat the names, the second are the custom resource's business."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    dropped = {"default", *(["title"] if isinstance(node.get("title"), str) else [])}
    return {key: _plain(value) for key, value in node.items() if key not in dropped}


def readme() -> str:
    """Return the chart's README as helm-docs writes it from README.md.gotmpl and the comments of values.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "k2"
        shutil.copytree(CHART, copy)
        run(tool("helm-docs"), "--chart-search-root", folder, "--log-level", "error")
        return (copy / "README.md").read_text()


def install() -> str:
    """Return the namespace, the custom resource and the chart with its default values, without hooks."""
    return _INSTALL_HEADER.format(namespace=NAMESPACE) + template("--include-crds", "--no-hooks", "--skip-tests")


def golden(values: Path) -> Callable[[], str]:
    """Return what renders the chart with the values of a file."""
    return lambda: template("--values", values)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file and what makes its content."""

    path: Path
    make: Callable[[], str]


def artifacts() -> Mapping[str, Artifact]:
    """Return all of them by name, those first on which others depend."""
    fixed = {
        "schema": Artifact(CHART / "values.schema.json", schema),
        "readme": Artifact(CHART / "README.md", readme),
        "install": Artifact(ROOT / "manifests/install.yaml", install),
    }
    cases = {path.stem: Artifact(GOLDEN / path.name, golden(path)) for path in sorted(VALUES.glob("*.yaml"))}
    return fixed | {f"golden-{name}": artifact for name, artifact in cases.items()}


def difference(artifact: Artifact) -> str:
    """Return a unified diff from the file to what it should be; empty when they are equal."""
    name = artifact.path.relative_to(ROOT).as_posix()
    old = artifact.path.read_text().splitlines(keepends=True) if artifact.path.exists() else []
    new = artifact.make().splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, name, f"{name} (made now)"))


def main() -> int:
    """Write the named artifacts, or all; with --check only compare."""
    parser = argparse.ArgumentParser(prog="hack/render", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="see --list; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing, print what differs, then exit 1")
    parser.add_argument("--list", action="store_true", help="print the names and their files")
    arguments = parser.parse_args()
    known = artifacts()
    if arguments.list:
        print("\n".join(f"{name:20} {artifact.path.relative_to(ROOT)}" for name, artifact in known.items()))
        return 0
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"found {', '.join(unknown)}, expected any of {', '.join(known)}")
    chosen = [known[name] for name in arguments.names] or list(known.values())
    if arguments.check:
        differences = [found for artifact in chosen if (found := difference(artifact))]
        print("".join(differences), end="")
        return 1 if differences else 0
    for artifact in chosen:
        artifact.path.parent.mkdir(parents=True, exist_ok=True)
        artifact.path.write_text(artifact.make())
        print(artifact.path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
