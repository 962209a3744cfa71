"""A pod template that Pod Security `restricted` admits: one container, no rights, no writable root, probes, limits.

Called by `deployments`, `maintenance` and `removal`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2_operator.config import OperatorConfig
from k2_operator.names import CONFIG_HASH, labels
from k2_operator.pipeline import Effective
from k2_operator.rendering.environment import CA_FILE, PIPELINE_PATH, TERMINATION_PATH, Variable, authorities

Manifest = dict[str, Any]

USER: Final = 65532
"""`nonroot` of the images; a number, so that the kubelet can see that it is not root."""
TMP_SIZE: Final = "256Mi"
"""Of /tmp, where the sink writes a Parquet file before it is uploaded (500,000 trades are about 10 MiB)."""
START_SECONDS: Final = 180
"""Longer than the 60 s that a service waits for Kafka and catalog, and a first load of a long history."""
PROBE_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Component:
    """What differs between the components' pods.

    Args:
        name: `ingest`, `sink`, `query`, `maintenance` or `removal`.
        source: Of an ingest, else None.
        image: With its tag.
        port: Where it answers probes, and the port's name; None for what runs to its end and answers nobody.
        grace_s: What it may take to drain after SIGTERM; above the service's own time-out.
        environment: Its variables.
        resources: Requests and limits.
        linger_s: Sleep before SIGTERM, so that load balancers stop sending first; 0 for none.
        tmp_size: Of /tmp, as a Kubernetes quantity. The kubelet evicts a pod that writes more.
        command: Instead of the image's own; empty for that.
    """

    name: str
    source: str | None
    image: str
    port: tuple[str, int] | None
    grace_s: int
    environment: list[Variable]
    resources: Mapping[str, Mapping[str, str]]
    linger_s: int = 0
    tmp_size: str = TMP_SIZE
    command: tuple[str, ...] = ()


def pod_template(effective: Effective, config: OperatorConfig, component: Component, config_hash: str) -> Manifest:
    """Return the template of a Deployment's or a Job's pods."""
    name = effective.pipeline.metadata.name
    return {
        "metadata": {
            "labels": labels(name, component.name, component.source),
            "annotations": {
                CONFIG_HASH: config_hash,
                "kubectl.kubernetes.io/default-container": component.name,
            },
        },
        "spec": _pod(effective, config, component),
    }


def _pod(effective: Effective, config: OperatorConfig, component: Component) -> Manifest:
    names = effective.names
    pod: Manifest = {
        "serviceAccountName": names.account(component.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": component.grace_s,
        "securityContext": pod_security(USER),
        "containers": [_container(effective, config, component)],
        "volumes": _volumes(effective, component),
    }
    if config.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in config.image_pull_secrets]
    if component.port is None:
        return pod | {"restartPolicy": "Never"}
    return pod | spread(labels(effective.pipeline.metadata.name, component.name, component.source))


def pod_security(user: int) -> Manifest:
    """Return what Pod Security `restricted` asks of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(user: int) -> Manifest:
    """Return what it asks of a container, and a root that cannot be written."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container(effective: Effective, config: OperatorConfig, component: Component) -> Manifest:
    container: Manifest = {
        "name": component.name,
        "image": component.image,
        "imagePullPolicy": config.image_pull_policy,
        "env": component.environment,
        **_ports(component),
        "resources": {part: dict(amounts) for part, amounts in component.resources.items()},
        **_probes(component),
        "securityContext": container_security(USER),
        "terminationMessagePath": TERMINATION_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(effective, component),
    }
    if component.command:
        container["command"] = list(component.command)
    if component.linger_s:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": component.linger_s}}}
    return container


def _ports(component: Component) -> Manifest:
    if component.port is None:
        return {}
    name, port = component.port
    return {"ports": [{"name": name, "containerPort": port, "protocol": "TCP"}]}


def _probes(component: Component) -> Manifest:
    if component.port is None:
        return {}
    name, _ = component.port
    return {
        "startupProbe": _probe("/livez", name, 2, START_SECONDS // 2),
        "livenessProbe": _probe("/livez", name, 2 * PROBE_SECONDS, 6),
        "readinessProbe": _probe("/readyz", name, PROBE_SECONDS, 2),
    }


def _probe(path: str, port: str, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _mounts(effective: Effective, component: Component) -> list[Manifest]:
    # subPath: a running service's file never changes under it, and the folder below can hold another mount.
    mounts: list[Manifest] = [
        {"name": "pipeline", "mountPath": PIPELINE_PATH, "subPath": "pipeline.yaml", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # the mount point of an emptyDir
    ]
    for volume, (folder, _) in authorities(effective, component.name).items():
        mounts.append({"name": volume, "mountPath": folder, "readOnly": True})
    return mounts


def _volumes(effective: Effective, component: Component) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "pipeline", "configMap": {"name": effective.names.config_map}},
        {"name": "tmp", "emptyDir": {"sizeLimit": component.tmp_size}},
    ]
    for volume, (_, ref) in authorities(effective, component.name).items():
        items = [{"key": ref.key, "path": CA_FILE}]
        volumes.append({"name": volume, "secret": {"secretName": ref.name, "items": items}})
    return volumes


def spread(own_labels: Mapping[str, str]) -> Manifest:
    """Prefer other nodes and zones, and run all the same where there is only one."""
    chosen = {"matchLabels": dict(own_labels)}
    term = {"weight": 100, "podAffinityTerm": {"labelSelector": chosen, "topologyKey": "kubernetes.io/hostname"}}
    return {
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": chosen,
            }
        ],
    }
