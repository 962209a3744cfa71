"""What the API server fills in is what the model fills in, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from k2_core.spec import parse_pipeline
from support.crd_api import SMALLEST, Document, PipelineApi, patched

PATCHES = {
    "smallest": "{}",
    "empty-parts": "{sink: {}, query: {}, maintenance: {}, scaling: {}, degradation: {}}",
    "kafka": "kafka: {bootstrapServers: 'a:1', tls: {}}",
    "storage": "storage: {warehouse: 's3://lake', catalog: {uri: 'postgresql://db'}, "
    "s3: {accessKeySecret: {name: a, key: b}, secretKeySecret: {name: a, key: b}}}",
    "redis": "redis: {address: 'redis:6379'}",
    "resources": "sink: {resources: {limits: {cpu: 2}}}",
    "manifest": "sink: {replicas: 1, commitIntervalSeconds: 10}",
}


def leaves(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(document, list):
        for at, value in enumerate(document):
            yield from leaves(value, f"{path}[{at}]")
    else:
        # A quantity may stand as a number; the model keeps all of them as text.
        yield path, str(document) if ".resources." in path else document


def by_the_model(document: Document) -> dict[str, Any]:
    return dict(leaves(parse_pipeline(document).spec.model_dump(by_alias=True, exclude_none=True, mode="json")))


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_both_fill_in_the_same(patch: str, api: PipelineApi) -> None:
    document = patched(SMALLEST, {"spec": yaml.safe_load(patch)})
    assert dict(leaves(api.judge(document).spec)) == by_the_model(document)


def test_what_the_api_server_returns_is_the_same_pipeline(api: PipelineApi) -> None:
    stored = api.judge(SMALLEST).document
    assert parse_pipeline(stored).spec == parse_pipeline(SMALLEST).spec
    assert parse_pipeline(stored).uid == stored["metadata"]["uid"]
