"""What the operator may do in a cluster: the rules of its Role or ClusterRole, to the verb.

The chart's role is held to this list by a test; nothing here is wider than what `cluster` and Kopf call. Secrets are
not in it: the chart lets the operator `get` those that its value `operator.secretNames` names, one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of RBAC.

    Args:
        group: The API group, "" for the core.
        resources: Plural names, with subresources as `deployments/scale`.
        verbs: What is done to them.
        why: For people who review the chart.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str

    def as_manifest(self) -> dict[str, list[str]]:
        """Return the rule as it stands in a Role."""
        return {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}


_CHILDREN: Final = ("get", "list", "watch", "create", "patch", "delete")
"""`create` because server-side apply of something new is authorised as create and patch."""

RULES: Final = (
    Rule("k2.dev", ("k2pipelines",), ("get", "list", "watch", "patch"), "the pipelines and their finalizer"),
    Rule("k2.dev", ("k2pipelines/status",), ("patch",), "conditions, phase and lag"),
    Rule("k2.dev", ("k2pipelines/finalizers",), ("update",), "owner references with blockOwnerDeletion"),
    Rule("apps", ("deployments",), _CHILDREN, "ingestion, sink and query"),
    Rule("batch", ("cronjobs",), _CHILDREN, "the maintenance of tables"),
    Rule("batch", ("jobs",), ("get", "create", "patch", "delete"), "the removal of a deleted pipeline's tables"),
    Rule("", ("services", "configmaps", "serviceaccounts"), _CHILDREN, "the query service, the file, accounts"),
    Rule("policy", ("poddisruptionbudgets",), _CHILDREN, "one a Deployment"),
    Rule("networking.k8s.io", ("networkpolicies",), _CHILDREN, "one a Deployment"),
    Rule("", ("pods",), ("list", "watch"), "why a pod is not ready, and whether the last one is gone"),
    Rule("", ("events",), ("create", "patch"), "changes of phase and of conditions"),
    Rule("autoscaling", ("horizontalpodautoscalers",), ("list", "watch"), "refuse a second hand on the replicas"),
    Rule("keda.sh", ("scaledobjects",), ("list", "watch"), "the same, where KEDA is installed"),
)
