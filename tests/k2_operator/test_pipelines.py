from __future__ import annotations

from typing import Any

import pytest

from k2_operator.pipelines import Pipelines, key_of
from support.operator import plain_body


def body(version: int, **metadata: Any) -> dict[str, Any]:
    made = plain_body("p")
    made["metadata"] |= {"resourceVersion": str(version), "generation": 1, "managedFields": [1], **metadata}
    return made


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        pytest.param({"generation": 2}, True, id="spec"),
        pytest.param({"deletionTimestamp": "now"}, True, id="deletion"),
        pytest.param({"annotations": {"a": "b"}}, True, id="annotation"),
        pytest.param({"labels": {"a": "b"}}, False, id="label"),
        pytest.param({}, False, id="status"),
    ],
)
def test_what_matters(change: dict[str, Any], matters: bool) -> None:
    pipelines = Pipelines()
    assert pipelines.put(body(1))
    assert pipelines.put(body(2, **change)) is matters


def test_versions_and_ends() -> None:
    pipelines = Pipelines()
    pipelines.put(body(5))
    assert not pipelines.put(body(4, generation=9))
    key = key_of(body(5))
    assert key in pipelines
    found = pipelines.get(key)
    assert found is not None
    assert "managedFields" not in found["metadata"]
    pipelines.drop(key)
    assert pipelines.get(key) is None
    assert len(pipelines) == 0
