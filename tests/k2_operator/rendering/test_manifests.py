from __future__ import annotations

import pytest

from k2_operator.names import RENDERED_HASH
from k2_operator.render import render_files
from k2_operator.rendering.manifests import with_replicas
from support.operator import DATA, UID, one, rendered


def test_golden_manifests() -> None:
    """Written anew by `python -m k2_operator render -f pipeline.yaml --config operator.yaml > manifests.yaml` there."""
    assert render_files([DATA / "pipeline.yaml"], DATA / "operator.yaml") == (DATA / "manifests.yaml").read_text()


def test_pods_come_after_what_they_mount() -> None:
    kinds = list(dict.fromkeys(item["kind"] for item in rendered()))
    assert kinds == [
        "ServiceAccount", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "Deployment"
    ]  # fmt: skip


def test_every_child_is_owned_and_labelled() -> None:
    for item in rendered():
        [owner] = item["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (UID, True, True)
        own = item["metadata"]["labels"]
        assert own["app.kubernetes.io/managed-by"] == "k2-operator"
        assert own["k2.dev/pipeline"] == "crypto"


def test_it_is_the_same_each_time() -> None:
    assert rendered() == rendered()


@pytest.mark.parametrize("replicas", [0, 2], ids=str)
def test_the_hash_follows_the_replicas(replicas: int) -> None:
    workload = one(rendered(), "Deployment", "crypto-query")
    changed = with_replicas(workload, replicas)
    assert changed["spec"]["replicas"] == replicas
    assert changed["metadata"]["annotations"][RENDERED_HASH] != workload["metadata"]["annotations"][RENDERED_HASH]
    assert with_replicas(changed, 3) == workload
