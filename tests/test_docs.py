"""The references say what the code has: every field of the pipeline file, every route, every benchmark."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2_core.spec import Pipeline, PipelineSpec, TrinoClusterSpec, load_pipeline, parse_pipeline

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "docs/pipeline.md").read_text()


def fields(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[str]:
    for name, value in node.get("properties", {}).items():
        yield name
        yield from inner(schema, value)


def inner(schema: dict[str, Any], value: dict[str, Any]) -> Iterator[str]:
    if "$ref" in value:
        yield from fields(schema, schema["$defs"][value["$ref"].rpartition("/")[2]])
    for option in [*value.get("anyOf", []), *([value["items"]] if "items" in value else [])]:
        yield from inner(schema, option)


def test_every_field_of_the_pipeline_file_is_in_its_reference() -> None:
    schema = PipelineSpec.model_json_schema(by_alias=True)
    words = set(re.findall(r"\w+", REFERENCE))
    found = set(fields(schema, schema))
    assert "commitIntervalSeconds" in found
    assert found - words == set()


def test_the_references_example_is_a_pipeline() -> None:
    example = re.search(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)
    assert example is not None
    assert isinstance(parse_pipeline(yaml.safe_load(example[1])), Pipeline)


def test_the_manifest_is_a_pipeline_that_shows_the_defaults() -> None:
    shown = load_pipeline(ROOT / "manifests/pipeline.yaml").spec
    assert shown.sink == PipelineSpec.model_fields["sink"].default
    assert shown.query == PipelineSpec.model_fields["query"].default


def test_the_manifest_of_a_trino_shows_the_defaults() -> None:
    shown = load_pipeline(ROOT / "manifests/pipeline-distributed.yaml").spec.query
    assert shown.needs_operator
    assert shown.trino_cluster == TrinoClusterSpec()


def test_every_route_is_in_the_api_reference() -> None:
    routes = set(re.findall(r'@app\.get\("([^"]+)"', (ROOT / "services/k2_query/app.py").read_text()))
    assert "/v1/trades" in routes
    listed = set(re.findall(r"`GET (/[^`]*)`", (ROOT / "docs/api.md").read_text()))
    assert routes == listed


@pytest.mark.parametrize("command", ["run", "test", "bench"])
def test_the_scripts_say_how_they_are_used(command: str) -> None:
    answer = subprocess.run(
        [ROOT / "hack" / command, "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    assert f"hack/{command}" in answer.stdout or "k2 up" in answer.stdout
