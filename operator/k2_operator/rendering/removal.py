"""The Job that drops a deleted pipeline's tables: the sink's image with another command, and what its pod needs.

Called by `manifests`, where `spec.deletionPolicy` is Delete, once nothing writes or reads any more. Pure.
"""

from __future__ import annotations

from typing import Final

from k2_operator.names import JOB, REMOVAL, labels
from k2_operator.rendering.deployments import Inputs, Resources, config_hash
from k2_operator.rendering.environment import removal_environment
from k2_operator.rendering.network import removal_policy
from k2_operator.rendering.objects import config_map, metadata, service_account, typed
from k2_operator.rendering.pods import Component, Manifest, pod_template

COMMAND: Final = ("python3", "-m", "k2_sink.removal")
GRACE_S: Final = 5
"""It may be cut off anywhere."""
RETRIES: Final = 2**31 - 1
"""The most that the API takes: the kubelet starts it again, with pauses that grow to 5 minutes, until it has succeeded,
or somebody has set the policy to Retain."""
RESOURCES: Final[Resources] = {
    "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "256Mi"},
}
"""It lists files and deletes them: 1 GiB is enough for a million of them."""


def removal_children(inputs: Inputs) -> list[Manifest]:
    """Return account, file, policy and, last, the Job."""
    effective = inputs.effective
    return [service_account(effective, REMOVAL), config_map(effective), removal_policy(effective), _job(inputs)]


def _job(inputs: Inputs) -> Manifest:
    effective = inputs.effective
    component = Component(
        name=REMOVAL,
        source=None,
        image=inputs.config.images.sink,
        port=None,
        grace_s=GRACE_S,
        environment=removal_environment(effective, inputs.uid),
        resources=RESOURCES,
        command=COMMAND,
    )
    digest = config_hash(effective, component, inputs.secret_versions)
    template = pod_template(effective, inputs.config, component, digest)
    own = labels(effective.pipeline.metadata.name, REMOVAL)
    return typed(JOB) | {
        "metadata": metadata(effective, effective.names.removal, own),
        "spec": {
            "backoffLimit": RETRIES,
            # In the same pod: what it said last is then there while it waits, and no ended pods heap up.
            "template": {**template, "spec": {**template["spec"], "restartPolicy": "OnFailure"}},
        },
    }
