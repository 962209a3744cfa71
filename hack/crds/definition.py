"""Writes charts/k2/crds/k2pipelines.k2.dev.yaml from the spec model and status.yaml, or compares it with them.

Run by hack/crd. The spec's one source is the pydantic model in services/k2_core/spec*.py, rules included.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from crds.structural import Schema, structural
from k2_core.spec import API_VERSION, KIND, Metadata, PipelineSpec

HERE: Final = Path(__file__).resolve().parent
FILE: Final = HERE.parents[1] / "charts/k2/crds/k2pipelines.k2.dev.yaml"
HEADER: Final = "# Written by hack/crd from services/k2_core/spec*.py and hack/crds/status.yaml: change those.\n"
GROUP, VERSION = API_VERSION.split("/")

COLUMNS: Final = (
    # name, type, path, priority (1: only with -o wide), description
    ("Phase", "string", ".status.phase", 0, "Where the pipeline stands"),
    ("Level", "integer", ".status.level", 0, "Level of degradation, 0 to 4"),
    ("Lag", "integer", ".status.lag.unreadRecords", 0, "Records that no sink has read yet"),
    ("Sinks", "integer", ".status.replicas.sink", 0, "Sinks that are ready"),
    ("Desired", "integer", ".status.replicas.sinkWanted", 0, "Sinks that are asked for"),
    # A date and not a number of seconds: kubectl counts on from it, so an operator that stands still does not hide it.
    ("Committed", "date", ".status.freshness.committedAt", 0, "Age of the newest commit"),
    ("Query", "string", ".status.query.url", 0, "Address of the query API"),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Age of the resource"),
    ("Uncommitted", "integer", ".status.lag.uncommittedRecords", 1, "Records that are not in the table yet"),
    ("Newest", "date", ".status.freshness.newestEventTime", 1, "Age of the newest event in the table"),
    ("Ingests", "integer", ".status.replicas.ingest", 1, "Ingests that are ready"),
    ("Queries", "integer", ".status.replicas.query", 1, "Query pods that are ready"),
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 1, "Whether all is well"),
    ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", 1, "Why"),
)


class _Dumper(yaml.SafeDumper):
    """Without anchors: what stands twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def definition() -> dict[str, Any]:
    """Return the whole custom resource definition."""
    plural = f"{KIND.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": plural,
                "singular": KIND.lower(),
                "shortNames": ["k2p"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            # For kubectl scale. Without a label selector, so that no HorizontalPodAutoscaler can use it: replicas
            # are decided in one hand.
            "scale": {"specReplicasPath": ".spec.sink.replicas", "statusReplicasPath": ".status.replicas.sink"},
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": description}
            for name, kind, path, priority, description in COLUMNS
        ],
        "schema": {"openAPIV3Schema": _schema()},
    }


def _schema() -> Schema:
    name = structural(Metadata.model_json_schema(by_alias=True))["properties"]["name"]
    return {
        "description": "A market-data pipeline: what to ingest, how to store it, where to ask.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": structural(PipelineSpec.model_json_schema(by_alias=True)),
            "status": yaml.safe_load((HERE / "status.yaml").read_text()),
        },
    }


def rendered() -> str:
    """Return the file's text."""
    return HEADER + yaml.dump(definition(), Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


def main(arguments: Sequence[str]) -> int:
    """Write or compare; returns the exit status."""
    parser = argparse.ArgumentParser(prog="hack/crd", description="Writes the custom resource definition.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 where the file is out of step")
    options = parser.parse_args(arguments)
    if not options.check:
        FILE.write_text(rendered())
        print(f"{FILE.name}: {FILE.stat().st_size} bytes")
        return 0
    if FILE.exists() and FILE.read_text() == rendered():
        return 0
    sys.stderr.write(f"{FILE.name}: found another text than the model gives, expected it in step: run hack/crd\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
