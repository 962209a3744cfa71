"""Names that the operator and everybody who reads the cluster agree on: labels, annotations, children, kinds.

Used by every module of the operator; pure, imports nothing of K2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

MANAGER: Final = "k2-operator"
"""Field manager of every write, and the value of the label `managed-by`."""
FINALIZER: Final = "k2.dev/teardown"
FORCE_DELETE: Final = "k2.dev/force-delete"
"""Annotation on a K2Pipeline: "true" skips the drain when it is deleted. Nothing is lost: the log keeps what it has."""
PIPELINE_LABEL: Final = "k2.dev/pipeline"
SOURCE_LABEL: Final = "k2.dev/source"
MANAGED_LABEL: Final = "app.kubernetes.io/managed-by"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
CONFIG_HASH: Final = "k2.dev/config-hash"
"""Annotation on pod templates: the part of the pipeline that the pods read, and the versions of their secrets."""
RENDERED_HASH: Final = "k2.dev/rendered-hash"
"""Annotation on children: what was rendered, so that a field that is no longer rendered is noticed."""

INGEST: Final = "ingest"
SINK: Final = "sink"
QUERY: Final = "query"
TRINO_COORDINATOR: Final = "trino-coordinator"
TRINO_WORKER: Final = "trino-worker"
TRINO_COMPONENTS: Final = (TRINO_COORDINATOR, TRINO_WORKER)
MAINTENANCE: Final = "maintenance"
"""Of the pods that keep tables in order through Trino."""
REMOVAL: Final = "removal"
"""Of the pod that drops the tables of a pipeline that is deleted, where `spec.deletionPolicy` says so."""

LONGEST_CRON_JOB_NAME: Final = 52
"""Its jobs are named after it, with 11 characters more, in at most 63."""
METRICS_PORT: Final = 9400
QUERY_PORT: Final = 8000
SERVICE_PORT: Final = 80
TRINO_PORT: Final = 8443
TRINO_READER: Final = "k2"
TRINO_MAINTAINER: Final = "k2-maintenance"
"""Users of a Trino that the operator runs."""
TRINO_READING: Final = "k2"
TRINO_MAINTAINING: Final = "k2_maintenance"
"""Catalogs of a Trino that the operator runs, one for each of its users: the same tables, once to read them only."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object as the API server addresses it.

    Args:
        api_version: Such as `apps/v1`.
        name: Such as `Deployment`.
        plural: Such as `deployments`.
    """

    api_version: str
    name: str
    plural: str

    @property
    def group(self) -> str:
        """The API group, "" for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def path(self) -> str:
        """The beginning of its URLs."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"


PIPELINE: Final = Kind("k2.dev/v1alpha1", "K2Pipeline", "k2pipelines")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
CRON_JOB: Final = Kind("batch/v1", "CronJob", "cronjobs")
JOB: Final = Kind("batch/v1", "Job", "jobs")
"""Of a pipeline that is deleted, for minutes: looked at by name and not watched."""
SERVICE: Final = Kind("v1", "Service", "services")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD: Final = Kind("v1", "Pod", "pods")
SECRET: Final = Kind("v1", "Secret", "secrets")
EVENT: Final = Kind("v1", "Event", "events")
AUTOSCALER: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
SCALED_OBJECT: Final = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")

CHILD_KINDS: Final = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
    SERVICE,
    DEPLOYMENT,
    CRON_JOB,
)
"""What the operator writes, in the order of writing: pods come last, when all that they mount and obey is there."""
KINDS: Final = {
    kind.name: kind for kind in (*CHILD_KINDS, JOB, PIPELINE, POD, SECRET, EVENT, AUTOSCALER, SCALED_OBJECT)
}


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one pipeline's children.

    Args:
        pipeline: The pipeline's own name.
    """

    pipeline: str

    def ingest(self, source: str) -> str:
        """Return the name of a source's Deployment."""
        return f"{self.pipeline}-ingest-{source}"

    @property
    def sink(self) -> str:
        """The sink's Deployment."""
        return f"{self.pipeline}-sink"

    @property
    def query(self) -> str:
        """The query Deployment and its Service."""
        return f"{self.pipeline}-query"

    @property
    def maintenance(self) -> str:
        """The CronJob that maintains tables, and its account and policy; cut where it would be too long."""
        suffix = f"-{MAINTENANCE}"
        room = LONGEST_CRON_JOB_NAME - len(suffix)
        if len(self.pipeline) <= room:
            return f"{self.pipeline}{suffix}"
        digest = hashlib.sha256(self.pipeline.encode()).hexdigest()[:8]
        return f"{self.pipeline[: room - 9]}-{digest}{suffix}"

    @property
    def removal(self) -> str:
        """The Job that drops tables, and its account and policy."""
        return f"{self.pipeline}-{REMOVAL}"

    def workload(self, component: str, source: str | None) -> str:
        """Return the name of a component's Deployment."""
        if source is not None:
            return self.ingest(source)
        return f"{self.pipeline}-{component}"

    @property
    def trino(self) -> str:
        """The Service of the Trino that the operator runs, and what its files are called."""
        return f"{self.pipeline}-trino"

    @property
    def trino_discovery(self) -> str:
        """The Service, without an address of its own, by which Trino's nodes find the coordinator's pod."""
        return f"{self.pipeline}-trino-discovery"

    @property
    def config_map(self) -> str:
        """The pipeline as the file that services read."""
        return f"{self.pipeline}-pipeline"

    def account(self, component: str) -> str:
        """Return the name of a component's ServiceAccount."""
        if component == MAINTENANCE:
            return self.maintenance
        return f"{self.pipeline}-{component}"


def selector(pipeline: str, component: str, source: str | None = None) -> dict[str, str]:
    """Return the labels by which a Deployment, a Service, a PDB or a policy finds its pods. They must never change."""
    labels = {PIPELINE_LABEL: pipeline, COMPONENT_LABEL: component}
    return labels if source is None else labels | {SOURCE_LABEL: source}


def labels(pipeline: str, component: str | None = None, source: str | None = None) -> dict[str, str]:
    """Return all labels of a child."""
    found = {
        "app.kubernetes.io/name": "k2",
        "app.kubernetes.io/instance": pipeline,
        MANAGED_LABEL: MANAGER,
        "app.kubernetes.io/part-of": "k2",
        PIPELINE_LABEL: pipeline,
    }
    return found if component is None else found | selector(pipeline, component, source)
