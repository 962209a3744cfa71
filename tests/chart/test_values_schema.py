"""values.schema.json: what does not exist or does not fit is refused before anything is rendered, with its path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from derived.__main__ import CHART
from support.chart import template

SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
_KAFKA: Final = {"bootstrapServers": "kafka:9092"}
_CATALOG: Final = {"type": "sql", "uri": "postgresql://catalog/k2"}

REFUSED: Final = {
    "an unknown key": ({"operater": {}}, "operater"),
    "an unknown key of a part": ({"operator": {"replicas": 2}}, "replicas"),
    "a secret's name that is none": ({"operator": {"secretNames": ["Not_A_Name"]}}, "/operator/secretNames/0"),
    "a secret twice": ({"operator": {"secretNames": ["a", "a"]}}, "/operator/secretNames"),
    "all namespaces by a star": ({"watchNamespaces": ["*"]}, "/watchNamespaces/0"),
    "namespaces as text": ({"watchNamespaces": "team"}, "/watchNamespaces"),
    "the tag latest": ({"image": {"tag": "latest"}}, "/image/tag"),
    "a registry with a scheme": ({"image": {"registry": "https://registry.example.com"}}, "/image/registry"),
    "a pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    "an image without a name": ({"images": {"sink": ""}}, "/images/sink"),
    "an image that is not there": ({"images": {"tail": "k2-tail"}}, "tail"),
    "a port as text": ({"operator": {"metricsPort": "9400"}}, "/operator/metricsPort"),
    "a privileged port": ({"operator": {"metricsPort": 80}}, "/operator/metricsPort"),
    "a level": ({"operator": {"logLevel": "info"}}, "/operator/logLevel"),
    "no time between looks": ({"operator": {"resyncSeconds": 0}}, "/operator/resyncSeconds"),
    "a quantity": ({"operator": {"resources": {"limits": {"memory": "512 MB"}}}}, "/operator/resources/limits/memory"),
    "a resource": ({"operator": {"resources": {"limits": {"mem": "1Gi"}}}}, "mem"),
    "a label that is no text": ({"operator": {"podLabels": {"a": 1}}}, "/operator/podLabels/a"),
    "an interval": ({"monitoring": {"interval": "15"}}, "/monitoring/interval"),
    "a flag as text": ({"monitoring": {"podMonitor": {"enabled": "yes"}}}, "/monitoring/podMonitor/enabled"),
    "an alert's name": (
        {"monitoring": {"prometheusRule": {"disabled": ["lag"]}}},
        "/monitoring/prometheusRule/disabled/0",
    ),
    "a broker without port": (
        {"defaults": {"kafka": {"bootstrapServers": "kafka"}}},
        "/defaults/kafka/bootstrapServers",
    ),
    "Kafka without brokers": ({"defaults": {"kafka": {"replicationFactor": 3}}}, "bootstrapServers"),
    "Kafka with an unknown key": ({"defaults": {"kafka": _KAFKA | {"brokers": []}}}, "brokers"),
    "an unknown SASL mechanism": (
        {"defaults": {"kafka": _KAFKA | {"sasl": {"mechanism": "GSSAPI"}}}},
        "/defaults/kafka/sasl",
    ),
    "API keys instead of a reference": (
        {"defaults": {"apiKeySecret": {"keys": "id.secret"}}},
        "/defaults/apiKeySecret",
    ),
    "storage without warehouse": ({"defaults": {"storage": {"catalog": _CATALOG}}}, "warehouse"),
    "a password instead of a reference": (
        {"defaults": {"storage": {"catalog": _CATALOG, "warehouse": "s3://a/b", "s3": {"accessKey": "x"}}}},
        "/defaults/storage/s3",
    ),
}


@pytest.mark.parametrize(("values", "path"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_with_its_path(values: dict[str, Any], path: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = template("--values", file)
    assert done.returncode != 0
    assert path in done.stderr, done.stderr
    assert "values don't meet the specifications of the schema" in done.stderr


def test_a_role_by_hand_needs_an_account_by_name() -> None:
    done = template("--set", "serviceAccount.create=false")
    assert done.returncode != 0
    assert "serviceAccount.name: found none, expected a name" in done.stderr


def leaves(values: Any, path: str = "") -> list[str]:
    if not isinstance(values, dict) or not values:
        return [path]
    return [leaf for key, value in values.items() for leaf in leaves(value, f"{path}.{key}")]


def declared(path: str) -> bool:
    node = SCHEMA
    for key in path.strip(".").split("."):
        while "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
        if key not in node.get("properties", {}):
            return isinstance(node.get("additionalProperties"), dict)
        node = node["properties"][key]
    return True


def objects(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for item in node for found in objects(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if "properties" in node else []
    return own + [found for value in node.values() for found in objects(value)]


def test_every_default_is_declared() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    found = leaves(values)
    assert ".operator.secretNames" in found
    assert [path for path in found if not declared(path)] == []


def test_no_part_of_it_takes_unknown_keys() -> None:
    parts = [part for part in objects(SCHEMA) if part.get("type") == "object"]
    assert len(parts) > 20
    assert [sorted(part["properties"]) for part in parts if part.get("additionalProperties") is not False] == []
