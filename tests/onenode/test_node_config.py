"""A node's files: where the paths and addresses lead, and what must never be missing."""

from __future__ import annotations

import json
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from onenode import node_config
from onenode.control_plane import SERVICE_RANGE
from onenode.network import NODE_ADDRESS, POD_RANGE
from onenode.node_config import Places

PLACES = Places(Path("/state"), Path("/run/k2/one"), Path("/usr/lib/cni"), "k2-one")


def test_containerd_keeps_to_the_clusters_folders() -> None:
    config = tomllib.loads(node_config.containerd(PLACES))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert (config["root"], config["state"]) == ("/state/containerd", "/run/k2/one/containerd")
    assert config["grpc"]["address"] == "/run/k2/one/containerd.sock"
    assert cri["sandbox_image"] == node_config.PAUSE_IMAGE
    assert cri["restrict_oom_score_adj"]
    assert cri["netns_mounts_under_state_dir"]
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": False, "Root": "/run/k2/one/runc"}


def test_pods_get_addresses_of_their_range_and_a_route() -> None:
    ipam = json.loads(node_config.cni(PLACES))["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": POD_RANGE}]]
    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}]
    assert ipam["dataDir"].startswith("/state/")


@pytest.mark.parametrize("address", [NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, node_config.DNS_ADDRESS])
def test_addresses_are_of_ranges_for_documentation(address: str) -> None:
    documentation = [ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    assert any(ip_address(address.partition("/")[0]) in network for network in documentation)


def test_the_kubelet_lets_nobody_in_unknown() -> None:
    config = yaml.safe_load(node_config.kubelet(PLACES, Path("/ca"), Path("/crt"), Path("/key")))
    assert config["authentication"] == {"anonymous": {"enabled": False}, "x509": {"clientCAFile": "/ca"}}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["readOnlyPort"] == 0
    assert config["cgroupRoot"] == "/k2-one"
    assert config["containerRuntimeEndpoint"] == "unix:///run/k2/one/containerd.sock"
    assert config["clusterDNS"] == [node_config.DNS_ADDRESS]


def test_kube_proxy_knows_node_and_pods() -> None:
    config = yaml.safe_load(node_config.kube_proxy(Path("/kubeconfig"), "one"))
    assert config["clientConnection"] == {"kubeconfig": "/kubeconfig"}
    assert config["hostnameOverride"] == "one"
    assert config["clusterCIDR"] == POD_RANGE
    assert config["conntrack"]["maxPerCore"] == 0


def test_coredns_answers_the_clusters_names_only() -> None:
    text = node_config.corefile(Path("/kubeconfig"))
    assert f"bind {NODE_ADDRESS}" in text
    assert "kubeconfig /kubeconfig k2" in text
    assert "forward" not in text


def test_the_first_objects_are_coredns_rights_and_its_service() -> None:
    objects = list(yaml.safe_load_all(node_config.first_objects()))
    assert [entry["kind"] for entry in objects] == ["ClusterRole", "ClusterRoleBinding", "Service", "EndpointSlice"]
    assert {verb for rule in objects[0]["rules"] for verb in rule["verbs"]} == {"list", "watch"}
    assert objects[2]["spec"]["clusterIP"] == node_config.DNS_ADDRESS


def test_a_server_beside_the_cluster_is_found_by_its_service() -> None:
    service, endpoints = node_config.outside_service("kafka", "k2-dev", [("kafka", 9092, 19092, "TCP")])
    assert service["spec"] == {"ports": [{"name": "kafka", "port": 9092, "targetPort": 19092, "protocol": "TCP"}]}
    assert endpoints["endpoints"] == [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}]
    assert endpoints["ports"] == [{"name": "kafka", "port": 19092, "protocol": "TCP"}]
    metadata = endpoints["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["labels"]["kubernetes.io/service-name"] == "kafka"
