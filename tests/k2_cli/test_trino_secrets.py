"""`k2 trino-secrets`: what is printed is what the operator asks for, and nothing of it is kept."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from k2_cli.trino_secrets import manifests
from k2_core.spec import parse_pipeline
from k2_operator.pipeline import TrinoRun, effective
from support.cli import k2
from support.operator import operated_body, operator_config

MANIFEST = Path(__file__).parents[2] / "manifests" / "pipeline-distributed.yaml"


def changed(tmp_path: Path, query: dict[str, Any]) -> Path:
    document = yaml.safe_load(MANIFEST.read_text())
    document["metadata"]["namespace"] = "markets"
    document["spec"]["query"] = query
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def names_of(document: dict[str, Any]) -> list[str]:
    made = ssl.create_default_context(cadata=document["stringData"]["ca.crt"]).get_ca_certs()
    return [dict(part for parts in one["subject"] for part in parts)["commonName"] for one in made]  # type: ignore[misc]


def test_they_are_the_two_that_the_operator_asks_for() -> None:
    answer = k2("trino-secrets", "-f", MANIFEST, "-n", "markets")
    assert (answer.code, answer.err) == (0, "")
    access, tls = yaml.safe_load_all(answer.out)
    assert [one["metadata"] for one in (access, tls)] == [
        {"name": "k2-trino-access", "namespace": "markets"},
        {"name": "k2-trino-tls", "namespace": "markets"},
    ]
    assert [one["type"] for one in (access, tls)] == ["Opaque", "kubernetes.io/tls"]
    run = TrinoRun(parse_pipeline(yaml.safe_load(MANIFEST.read_text())).spec.query.trino_cluster, "a", "t")  # type: ignore[arg-type]
    asked = [(ref.name, ref.key) for _, ref in run.secrets()]
    given = [("a", key) for key in access["stringData"]] + [("t", key) for key in tls["stringData"]]
    assert sorted(asked) == sorted(given)
    assert all(len(word) >= 32 for word in access["stringData"].values())
    assert len(set(access["stringData"].values())) == 3
    assert names_of(tls) == ["crypto-trino-ca"]
    assert "tls.key: |\n    -----BEGIN PRIVATE KEY-----" in answer.out


def test_each_call_makes_others() -> None:
    first, second = (k2("trino-secrets", "-f", MANIFEST, "--json").document["items"] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one["metadata"]["namespace"] == "default"
        assert one["stringData"].keys() == other["stringData"].keys()
        assert not set(one["stringData"].values()) & set(other["stringData"].values())


def test_the_pipelines_own_names_go_first_and_options_before_them(tmp_path: Path) -> None:
    cluster = {"accessSecretName": "mine", "tlsSecretName": "mine-tls"}
    file = changed(tmp_path, {"mode": "distributed", "trinoCluster": cluster})
    items = k2("trino-secrets", "-f", file, "--json").document["items"]
    assert [(one["metadata"]["name"], one["metadata"]["namespace"]) for one in items] == [
        ("mine", "markets"),
        ("mine-tls", "markets"),
    ]
    asked = ("--access-name", "a", "--tls-name", "t", "--json")
    items = k2("trino-secrets", "-f", file, *asked).document["items"]
    assert [one["metadata"]["name"] for one in items] == ["a", "t"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"mode": "single"}, "k2: spec.query.mode: found single, expected distributed: without it the operator runs"),
        (
            {"mode": "distributed", "trino": {"url": "https://trino.desk:8443"}},
            "k2: spec.query.trino: found https://trino.desk:8443, expected none: one that exists already has its own",
        ),
    ],
    ids=["single", "existing"],
)
def test_without_a_trino_of_the_operators_there_are_none(tmp_path: Path, query: dict[str, Any], said: str) -> None:
    answer = k2("trino-secrets", "-f", changed(tmp_path, query))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(said)


@pytest.mark.parametrize("days", ["0", "3651", "many"])
def test_a_validity_that_makes_no_sense_is_refused(days: str) -> None:
    answer = k2("trino-secrets", "-f", MANIFEST, "--days", days)
    assert (answer.code, answer.out) == (2, "")
    assert "--days" in answer.err


def test_the_name_is_the_one_by_which_the_operator_has_it_asked() -> None:
    body = operated_body()
    items = manifests(parse_pipeline(body))
    host = str(urlsplit(effective(body, operator_config()).trino_url).hostname)
    der = ssl.PEM_cert_to_DER_cert(items[1]["stringData"]["tls.crt"])
    assert b"\x82" + bytes([len(host)]) + host.encode() in der  # a DNS name, as X.509 writes it
