"""Pipelines, configurations and manifests for the operator's tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from k2_operator.config import OperatorConfig, load_config
from k2_operator.pipeline import Effective, effective
from k2_operator.rendering.deployments import Inputs
from k2_operator.rendering.manifests import render

DATA: Final = Path(__file__).parents[1] / "data" / "k2_operator"
UID: Final = "11111111-2222-3333-4444-555555555555"


def secured_body() -> dict[str, Any]:
    """A pipeline that uses every kind of secret."""
    document: dict[str, Any] = yaml.safe_load((DATA / "pipeline.yaml").read_text())
    document["metadata"]["uid"] = UID
    return document


def distributed_body() -> dict[str, Any]:
    """The same with a Trino behind its API, which asks for a password."""
    document = secured_body()
    document["spec"]["query"] |= {
        "mode": "distributed",
        "trino": {
            "url": "https://trino.analytics:8443",
            "catalog": "lake",
            "user": "k2-crypto",
            "passwordSecret": {"name": "trino-login", "key": "password"},
            "caSecret": {"name": "trino-ca", "key": "ca.pem"},
        },
    }
    return document


def operated_body(**cluster: object) -> dict[str, Any]:
    """The same pipeline with a Trino that the operator runs."""
    document = secured_body()
    given = {"accessSecretName": "trino-access", "tlsSecretName": "trino-tls", **cluster}
    document["spec"]["query"] |= {"mode": "distributed", "trinoCluster": given}
    return document


def operated(**cluster: object) -> Effective:
    """`operated_body`, filled in."""
    return effective(operated_body(**cluster), operator_config())


def distributed() -> Effective:
    """`distributed_body`, filled in."""
    return effective(distributed_body(), operator_config())


def plain_body(name: str = "crypto", **spec: object) -> dict[str, Any]:
    """The smallest pipeline, with more in its spec."""
    source = {"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 4}
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "K2Pipeline",
        "metadata": {"name": name, "namespace": "default", "uid": UID},
        "spec": {"ingestion": [source], **spec},
    }


def operator_config() -> OperatorConfig:
    """The configuration of tests/data."""
    return load_config(DATA / "operator.yaml")


def secured() -> Effective:
    """`secured_body`, filled in."""
    return effective(secured_body(), operator_config())


def rendered(body: Mapping[str, Any] | None = None, versions: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """All manifests of a pipeline."""
    config = operator_config()
    return render(Inputs(effective(body or secured_body(), config), config, UID, versions or {}))


def one(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one manifest of that kind and name."""
    [found] = [item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def container(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The only container of a Deployment."""
    [found] = manifest["spec"]["template"]["spec"]["containers"]
    return dict(found)
