"""The children of a Trino that the operator runs: one coordinator, its workers, and what they need.

Called by `manifests`. What their files say is `trino_config`'s. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from k2_core.spec_fields import ResourcesSpec
from k2_operator.names import (
    COMPONENT_LABEL,
    CONFIG_HASH,
    CONFIG_MAP,
    DEPLOYMENT,
    MAINTENANCE,
    NETWORK_POLICY,
    PIPELINE_LABEL,
    QUERY,
    SERVICE,
    TRINO_COMPONENTS,
    TRINO_COORDINATOR,
    TRINO_PORT,
    TRINO_WORKER,
    labels,
    selector,
)
from k2_operator.pipeline import Effective, TrinoRun
from k2_operator.rendering.deployments import Inputs, Resources, merged, one_more_first
from k2_operator.rendering.environment import (
    TERMINATION_PATH,
    TRINO_FILES,
    TRINO_TEMPLATES,
    TRINO_TLS,
    trino_environment,
    trino_files_environment,
)
from k2_operator.rendering.network import dns_egress, storage_ports, tcp
from k2_operator.rendering.objects import disruption_budget, metadata, service_account, typed
from k2_operator.rendering.pods import Manifest, container_security, pod_security, spread
from k2_operator.rendering.trino_config import CACHE, CATALOG_FILES, COORDINATOR_CACHE_MIB, DATA, ETC, cache_mib, files

USER: Final = 1000
"""`trino` of Trino's image."""
RUN_TRINO: Final = "/usr/lib/trino/bin/run-trino"
START_S: Final = 600
"""Half a minute on an idle machine, several on one where all nodes start at once."""
COORDINATOR_GRACE_S: Final = 30
"""Queries that run end with their coordinator: K2 takes seconds for one, and asks again."""
COORDINATOR_RESOURCES: Final[Resources] = {
    "requests": {"cpu": "500m", "memory": "3Gi"},
    "limits": {"cpu": "2", "memory": "3Gi"},
}
WORKER_RESOURCES: Final[Resources] = {
    "requests": {"cpu": "1", "memory": "4Gi"},
    "limits": {"cpu": "4", "memory": "4Gi"},
}
"""Memory is asked for whole, as a JVM never gives its heap back."""
FILES_RESOURCES: Final = {
    "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "16Mi"},
    "limits": {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "64Mi"},
}
_DATA_MIB: Final = 1024
_TMP_MIB: Final = 256
_LOGS_MIB: Final = 256
_OF_COORDINATOR_ALONE: Final = ("password-authenticator.properties",)
_OF_WORKER_ALONE: Final = ("drain.sh",)


def trino_children(inputs: Inputs, run: TrinoRun) -> list[Manifest]:
    """Return everything of a pipeline's Trino."""
    effective = inputs.effective
    texts = {component: _files(effective, run, component) for component in TRINO_COMPONENTS}
    return [
        *(service_account(effective, component) for component in TRINO_COMPONENTS),
        *(_config_map(effective, component, texts[component]) for component in TRINO_COMPONENTS),
        *(_policy(effective, component) for component in TRINO_COMPONENTS),
        *(
            disruption_budget(effective, effective.names.workload(component, None), component, None)
            for component in TRINO_COMPONENTS
        ),
        _service(effective, effective.names.trino, {}),
        # Nodes announce themselves while they start, to the address of the coordinator's pod: its certificate has that.
        _service(effective, effective.names.trino_discovery, {"clusterIP": "None", "publishNotReadyAddresses": True}),
        *(_deployment(inputs, run, component, texts[component]) for component in TRINO_COMPONENTS),
    ]


def resources(run: TrinoRun, component: str) -> dict[str, dict[str, str]]:
    """Return what a node asks for and may take."""
    coordinator = component == TRINO_COORDINATOR
    defaults = COORDINATOR_RESOURCES if coordinator else WORKER_RESOURCES
    asked: ResourcesSpec | None = (run.spec.coordinator if coordinator else run.spec.workers).resources
    found = {part: dict(amounts) for part, amounts in merged(defaults, asked).items()}
    beside = _DATA_MIB + _TMP_MIB + _LOGS_MIB
    found["requests"]["ephemeral-storage"] = f"{_LOGS_MIB}Mi"
    found["limits"]["ephemeral-storage"] = f"{_cache_volume_mib(run, component) + beside}Mi"
    return found


def _cache_volume_mib(run: TrinoRun, component: str) -> int:
    """A tenth more than what Trino may keep there: it removes pages when they are too many, not before."""
    kept = COORDINATOR_CACHE_MIB if component == TRINO_COORDINATOR else cache_mib(run)
    return kept + kept // 10


def _files(effective: Effective, run: TrinoRun, component: str) -> dict[str, str]:
    memory = resources(run, component)["limits"]["memory"]
    found = files(effective, run, component, memory)
    left_out = _OF_WORKER_ALONE if component == TRINO_COORDINATOR else _OF_COORDINATOR_ALONE
    return {name: text for name, text in found.items() if name not in left_out}


def _config_map(effective: Effective, component: str, texts: Mapping[str, str]) -> Manifest:
    name = effective.names.workload(component, None)
    own = labels(effective.pipeline.metadata.name, component)
    return typed(CONFIG_MAP) | {"metadata": metadata(effective, name, own), "data": dict(texts)}


def _service(effective: Effective, name: str, more: Mapping[str, Any]) -> Manifest:
    pipeline = effective.pipeline.metadata.name
    return typed(SERVICE) | {
        "metadata": metadata(effective, name, labels(pipeline, TRINO_COORDINATOR)),
        "spec": {
            "type": "ClusterIP",
            **more,
            "selector": selector(pipeline, TRINO_COORDINATOR),
            "ports": [{"name": "https", "port": TRINO_PORT, "targetPort": "https", "protocol": "TCP"}],
        },
    }


def _policy(effective: Effective, component: str) -> Manifest:
    pipeline = effective.pipeline.metadata.name
    callers = (*TRINO_COMPONENTS, QUERY, MAINTENANCE) if component == TRINO_COORDINATOR else TRINO_COMPONENTS
    return typed(NETWORK_POLICY) | {
        "metadata": metadata(effective, effective.names.workload(component, None), labels(pipeline, component)),
        "spec": {
            "podSelector": {"matchLabels": selector(pipeline, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [_peers(pipeline, callers)], "ports": [tcp(TRINO_PORT)]}],
            "egress": [
                dns_egress(),
                {"to": [_peers(pipeline, TRINO_COMPONENTS)], "ports": [tcp(TRINO_PORT)]},
                {"ports": [tcp(port) for port in sorted(storage_ports(effective))]},
            ],
        },
    }


def _peers(pipeline: str, components: tuple[str, ...]) -> Manifest:
    chosen = {"key": COMPONENT_LABEL, "operator": "In", "values": list(components)}
    return {"podSelector": {"matchLabels": {PIPELINE_LABEL: pipeline}, "matchExpressions": [chosen]}}


def _deployment(inputs: Inputs, run: TrinoRun, component: str, texts: Mapping[str, str]) -> Manifest:
    effective = inputs.effective
    pipeline, name = effective.pipeline.metadata.name, effective.names.workload(component, None)
    coordinator = component == TRINO_COORDINATOR
    return typed(DEPLOYMENT) | {
        "metadata": metadata(effective, name, labels(pipeline, component)),
        "spec": {
            "replicas": 1 if coordinator else run.spec.workers.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 900,
            "selector": {"matchLabels": selector(pipeline, component)},
            # Two coordinators at once would each have some of the workers.
            "strategy": {"type": "Recreate"} if coordinator else one_more_first(),
            "template": {
                "metadata": {
                    "labels": labels(pipeline, component),
                    "annotations": {
                        CONFIG_HASH: _hash(inputs, run, texts),
                        "kubectl.kubernetes.io/default-container": component,
                    },
                },
                "spec": _pod(inputs, run, component, texts),
            },
        },
    }


def _hash(inputs: Inputs, run: TrinoRun, texts: Mapping[str, str]) -> str:
    """Return a digest of what a node reads at its start."""
    storage = inputs.effective.storage
    referred = {run.access, run.tls}
    if storage.catalog.uri_secret is not None:
        referred.add(storage.catalog.uri_secret.name)
    if storage.s3 is not None:
        referred |= {storage.s3.access_key_secret.name, storage.s3.secret_key_secret.name}
    versions = {name: inputs.secret_versions.get(name, "") for name in sorted(referred)}
    kept = {"files": dict(texts), "uri": storage.catalog.uri, "secrets": versions}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _pod(inputs: Inputs, run: TrinoRun, component: str, texts: Mapping[str, str]) -> Manifest:
    effective, config = inputs.effective, inputs.config
    grace_s = COORDINATOR_GRACE_S if component == TRINO_COORDINATOR else run.spec.grace_period_seconds
    pod: Manifest = {
        "serviceAccountName": effective.names.account(component),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": pod_security(USER),
        "initContainers": [_files_container(inputs, run, component)],
        "containers": [_container(inputs, run, component)],
        "volumes": _volumes(effective, run, component, texts),
    }
    if config.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in config.image_pull_secrets]
    return pod | spread(labels(effective.pipeline.metadata.name, component))


def _files_container(inputs: Inputs, run: TrinoRun, component: str) -> Manifest:
    coordinator = component == TRINO_COORDINATOR
    mounts: list[Manifest] = [
        *(
            {"name": "config", "mountPath": f"{TRINO_TEMPLATES}/{name}", "subPath": name, "readOnly": True}
            for name in CATALOG_FILES
        ),
        {"name": "files", "mountPath": TRINO_FILES},
    ]
    if coordinator:
        mounts.append({"name": "tls", "mountPath": TRINO_TLS, "readOnly": True})
    return {
        "name": "files",
        "image": inputs.config.images.query,
        "imagePullPolicy": inputs.config.image_pull_policy,
        "command": ["python3", "-m", "k2_query.trino_files"],
        "env": trino_files_environment(inputs.effective, run, coordinator=coordinator),
        "resources": FILES_RESOURCES,
        "securityContext": container_security(USER),
        "terminationMessagePath": TERMINATION_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _container(inputs: Inputs, run: TrinoRun, component: str) -> Manifest:
    ready = {"exec": {"command": ["/bin/sh", f"{ETC}/ready.sh"]}, "timeoutSeconds": 10}
    alive = {"httpGet": {"path": "/v1/info", "port": "https", "scheme": "HTTPS"}, "timeoutSeconds": 10}
    container: Manifest = {
        "name": component,
        "image": inputs.config.images.trino,
        "imagePullPolicy": inputs.config.image_pull_policy,
        "command": [RUN_TRINO],
        "env": trino_environment(inputs.effective, run),
        "ports": [{"name": "https", "containerPort": TRINO_PORT, "protocol": "TCP"}],
        "resources": resources(run, component),
        "startupProbe": ready | {"periodSeconds": 5, "failureThreshold": START_S // 5},
        "livenessProbe": alive | {"periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": ready | {"periodSeconds": 10, "failureThreshold": 3},
        "securityContext": container_security(USER),
        "terminationMessagePath": TERMINATION_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": ETC, "readOnly": True},
            {"name": "files", "mountPath": TRINO_FILES, "readOnly": True},
            {"name": "data", "mountPath": DATA},
            {"name": "cache", "mountPath": CACHE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # the mount point of an emptyDir
        ],
    }
    if component == TRINO_WORKER:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", f"{ETC}/drain.sh"]}}}
    return container


def _volumes(effective: Effective, run: TrinoRun, component: str, texts: Mapping[str, str]) -> list[Manifest]:
    name = effective.names.workload(component, None)
    items = [{"key": key, "path": key} for key in sorted(texts)]
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": name, "items": items}},
        {"name": "files", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "data", "emptyDir": {"sizeLimit": f"{_DATA_MIB}Mi"}},
        {"name": "cache", "emptyDir": {"sizeLimit": f"{_cache_volume_mib(run, component)}Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{_TMP_MIB}Mi"}},
    ]
    if component == TRINO_COORDINATOR:
        keys = [{"key": key, "path": key} for key in ("tls.crt", "tls.key")]
        volumes.append({"name": "tls", "secret": {"secretName": run.tls, "items": keys}})
    return volumes
