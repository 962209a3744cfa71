"""All children of a pipeline, in the order in which they are written.

Called by `reconcile` and the command `render`. Pure: the same pipeline, configuration and secret versions give the same
manifests, byte for byte.
"""

from __future__ import annotations

import hashlib
import json

from k2_operator.names import CHILD_KINDS, PIPELINE, RENDERED_HASH
from k2_operator.pipeline import Effective
from k2_operator.rendering.deployments import Inputs, deployments
from k2_operator.rendering.maintenance import maintenance_jobs
from k2_operator.rendering.network import network_policies
from k2_operator.rendering.objects import config_map, disruption_budgets, query_service, service_accounts
from k2_operator.rendering.pods import Manifest
from k2_operator.rendering.removal import removal_children
from k2_operator.rendering.trino import trino_children


def render(inputs: Inputs) -> list[Manifest]:
    """Return every child with its owner and the hash of what was rendered; Deployments as when the pipeline runs."""
    effective = inputs.effective
    children = [
        *service_accounts(effective),
        config_map(effective),
        *network_policies(effective),
        *disruption_budgets(effective),
        query_service(effective),
        *deployments(inputs),
        *([] if inputs.effective.trino is None else trino_children(inputs, inputs.effective.trino)),
        *maintenance_jobs(inputs),
    ]
    order = {kind.name: place for place, kind in enumerate(CHILD_KINDS)}
    children.sort(key=lambda child: order[child["kind"]])
    return [_signed(_owned(child, effective, inputs.uid)) for child in children]


def render_removal(inputs: Inputs) -> list[Manifest]:
    """Return the Job that drops the pipeline's tables, last, and what it needs before it."""
    return [_signed(_owned(child, inputs.effective, inputs.uid)) for child in removal_children(inputs)]


def with_replicas(child: Manifest, replicas: int) -> Manifest:
    """Return a Deployment with other replicas."""
    metadata = {name: value for name, value in child["metadata"].items() if name != "annotations"}
    unsigned = {**child, "metadata": metadata}
    return _signed({**unsigned, "spec": {**child["spec"], "replicas": replicas}})


def _owned(child: Manifest, effective: Effective, uid: str) -> Manifest:
    owner = {
        "apiVersion": PIPELINE.api_version,
        "kind": PIPELINE.name,
        "name": effective.pipeline.metadata.name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {**child, "metadata": {**child["metadata"], "ownerReferences": [owner]}}


def _signed(child: Manifest) -> Manifest:
    digest = hashlib.sha256(json.dumps(child, sort_keys=True).encode()).hexdigest()[:16]
    return {**child, "metadata": {**child["metadata"], "annotations": {RENDERED_HASH: digest}}}
