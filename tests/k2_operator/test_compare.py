from __future__ import annotations

from typing import Any

import pytest

from k2_operator.compare import differences
from support.operator import rendered


@pytest.mark.parametrize(
    ("rendered_part", "live", "expected"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, [], id="a default beside"),
        pytest.param({"a": 1}, {"a": 2}, [".a"], id="another value"),
        pytest.param({"a": 1}, {}, [".a"], id="missing"),
        pytest.param({"a": {"b": 1}}, {"a": 3}, [".a"], id="no mapping"),
        pytest.param({"a": [1]}, {"a": {"b": 1}}, [".a"], id="no list"),
        pytest.param({"cpu": "1000m"}, {"cpu": "1"}, [], id="a quantity in another form"),
        pytest.param({"cpu": "1000m"}, {"cpu": "2"}, [".cpu"], id="another quantity"),
        pytest.param({"name": "1000m"}, {"name": "1"}, [".name"], id="no quantity"),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            [],
            id="a list by key with one of somebody else",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}]},
            [".env[A].value"],
            id="a changed item",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]}, {"env": []}, [".env[A].name", ".env[A].value"], id="an item gone"
        ),
        pytest.param({"ports": [{"port": 1}]}, {"ports": [{"port": 1, "x": 0}]}, [], id="a list in order"),
        pytest.param({"ports": [{"port": 1}]}, {"ports": [{"port": 2}]}, [".ports[0].port"], id="another item"),
        pytest.param({"ports": [1]}, {"ports": [1, 2]}, [".ports"], id="a longer list"),
        pytest.param({"ingress": []}, {}, [], id="an empty list that the API server left out"),
        pytest.param({"ingress": []}, {"ingress": [{}]}, [".ingress"], id="a list that is to be empty"),
    ],
)
def test_differences(rendered_part: dict[str, Any], live: dict[str, Any], expected: list[str]) -> None:
    assert differences(rendered_part, live) == expected


@pytest.mark.parametrize("manifest", rendered(), ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_a_manifest_does_not_differ_from_itself(manifest: dict[str, Any]) -> None:
    assert differences(manifest, manifest) == []
