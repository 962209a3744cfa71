"""The configuration files of a node, as text: containerd, CNI, kubelet, kube-proxy, coredns and its Service.

Pure; called by `onenode.node`. A value that is there for a reason has the reason beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from onenode.network import NODE_ADDRESS, POD_RANGE

DNS_ADDRESS: Final = "203.0.113.10"
PAUSE_IMAGE: Final = "k2.dev/pause:1"
DOMAIN: Final = "cluster.local"
COREDNS_READY_PORT: Final = 8181


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of a node lie.

    Args:
        home: The cluster's folder.
        run: A short path for sockets (a Unix socket's path has at most 107 bytes).
        cni_programs: Folder of the CNI plugins.
        group: The control group of the pods.
    """

    home: Path
    run: Path
    cni_programs: Path
    group: str

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.run / "containerd.sock"


def containerd(places: Places) -> str:
    """TOML of containerd 1.6 (config version 2)."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{places.home / "containerd"}"
state = "{places.run / "containerd"}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{places.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{places.home / "opt"}"

[{cri}]
sandbox_image = "{PAUSE_IMAGE}"
# Where CAP_SYS_RESOURCE is missing, no process may lower its own score, and every sandbox would fail.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"

[{cri}.cni]
bin_dir = "{places.cni_programs}"
conf_dir = "{places.home / "cni"}"

[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{places.run / "runc"}"
"""


def cni(places: Places) -> str:
    """The pods' network: a routed pair of links a pod, so that Services need no bridge filter in the kernel."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(places.home / "cni-addresses"),
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "k2", "plugins": plugins}, indent=1)


def kubelet(places: Places, authority: Path, certificate: Path, key: Path) -> str:
    """KubeletConfiguration (kubelet.config.k8s.io/v1beta1)."""
    return _yaml(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "readOnlyPort": 0,
            "containerRuntimeEndpoint": f"unix://{places.containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{places.group}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,  # see containerd's restrict_oom_score_adj
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": DOMAIN,
            "resolvConf": str(places.home / "resolv.conf"),
            "podLogsDir": str(places.home / "log" / "pods"),
            "volumePluginDir": str(places.home / "volume-plugins"),
            "seccompDefault": True,
            # There is no registry to fetch an image from again, and the disk is the user's, not the node's.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "nodeStatusUpdateFrequency": "5s",
        }
    )


def kube_proxy(kubeconfig: Path, node: str) -> str:
    """KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)."""
    return _yaml(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": node,
            "mode": "iptables",
            "clusterCIDR": POD_RANGE,
            # The limit is the machine's, and may not be set from within a namespace.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "oomScoreAdj": 0,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "iptables": {"minSyncPeriod": "200ms"},
        }
    )


def corefile(kubeconfig: Path) -> str:
    """Coredns' Corefile: the cluster's names and no others, as there is no way out."""
    return f""".:53 {{
    bind {NODE_ADDRESS}
    errors
    ready 127.0.0.1:{COREDNS_READY_PORT}
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig} k2
        ttl 5
    }}
    cache 5
}}
"""


def first_objects() -> str:
    """What coredns may read, and the Service under which pods find it."""
    reads = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "system:coredns"}}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    service, endpoints = outside_service(
        "kube-dns", "kube-system", [("dns", 53, 53, "UDP"), ("dns-tcp", 53, 53, "TCP")], cluster_ip=DNS_ADDRESS
    )
    return documents(
        [
            role | {"kind": "ClusterRole", "rules": reads},
            role | {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]},
            service,
            endpoints,
        ]
    )


def outside_service(
    name: str, namespace: str, ports: Sequence[tuple[str, int, int, str]], cluster_ip: str | None = None
) -> tuple[dict[str, object], dict[str, object]]:
    """A Service for a server that runs on the node beside the cluster, and the EndpointSlice that says where.

    Args:
        name: Of the Service: pods reach it as `<name>.<namespace>.svc`.
        namespace: Of both.
        ports: Name, the Service's port, the server's port on the node, protocol.
        cluster_ip: Of the Service; None has one chosen.
    """
    service: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": ({} if cluster_ip is None else {"clusterIP": cluster_ip})
        | {
            "ports": [
                {"name": port, "port": at, "targetPort": target, "protocol": protocol}
                for port, at, target, protocol in ports
            ]
        },
    }
    endpoints: dict[str, object] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-node",
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "hack-cluster",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"name": port, "port": target, "protocol": protocol} for port, _, target, protocol in ports],
    }
    return service, endpoints


def documents(objects: Sequence[Mapping[str, object]]) -> str:
    """Several objects as one YAML text."""
    return yaml.safe_dump_all(objects, sort_keys=False)


def _yaml(document: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False)
