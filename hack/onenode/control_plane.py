"""etcd, the API server and the controller-manager: enough for CRDs, operators and charts, without a node.

Owns `ControlPlane`. Called by `onenode.cluster` and by tests. It starts no pod: there is no kubelet. Everything
listens on loopback, or on the node's address inside the network namespace of a whole cluster.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from k2_cli.stack import ports
from onenode import kubeconfig
from onenode.certificates import Authority, Pair
from onenode.processes import Command, Processes
from onenode.tools import Say, say_on_stderr, tool

Probe = Callable[[str], bool]

KUBECONFIG: Final = "kubeconfig"
"""Name of the administrator's file in the cluster's folder."""
SERVICE_RANGE: Final = "203.0.113.0/24"
"""Addresses of Services, from a range that no network routes (RFC 5737)."""
_FIRST_SERVICE: Final = "203.0.113.1"
START_TIMEOUT_S: Final = 90.0
"""4 s on an idle machine of two cores."""
_REQUEST_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the control plane listens.

    Args:
        host: Of the API server.
        api_port: Of the API server.
        etcd_port: On 127.0.0.1, as etcd's peer port.
        etcd_peer_port: Unused by anybody: there is one member.
        fixed: Whether the address is the node's own, so that pods may be told to use it.
    """

    host: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    fixed: bool = False

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.host}:{self.api_port}"


def free_address(directory: Path) -> Address:
    """Choose three free ports of 127.0.0.1."""
    api = ports.find_free(f"api of {directory}")
    etcd = ports.find_free(f"etcd of {directory}", avoid=frozenset({api}))
    peer = ports.find_free(f"etcd-peer of {directory}", avoid=frozenset({api, etcd}))
    return Address(ports.LOOPBACK, api, etcd, peer)


class ControlPlane:
    """The control plane of one cluster.

    Args:
        processes: Starts and stops; its folder is the cluster's.
        address: Where to listen.
        probe: Whether the API server answers a path with success, asked from where it can be reached; None asks it
            from here.
        say: Told about every step that takes seconds.
        services: The range of Services' addresses, `SERVICE_RANGE` unless there are to be more than its 254.
    """

    def __init__(
        self,
        processes: Processes,
        address: Address,
        *,
        probe: Probe | None = None,
        say: Say = say_on_stderr,
        services: str | None = None,
    ) -> None:
        self.address = address
        self._services = services or SERVICE_RANGE
        self._probe = probe or self._ask
        self._processes = processes
        self._say = say
        self._home = processes.directory
        self._programs: dict[str, Path] = {}

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self._home / KUBECONFIG

    @property
    def authority(self) -> Authority:
        """Signs for the API server, its clients and the node."""
        return Authority(self._home / "pki", "ca", self._program("openssl"))

    @property
    def admin(self) -> Pair:
        """The administrator's certificate."""
        return Pair(self._home / "pki" / "admin.crt", self._home / "pki" / "admin.key")

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start all three and return when the API server answers.

        Args:
            meanwhile: What to do while it starts.

        Raises:
            SetupError: A program is missing, or one of them did not start.
        """
        for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
            self._program(name)
        self._make_certificates()
        self._processes.start(Command("etcd", self._etcd()))
        self._processes.start(Command("kube-apiserver", self._api_server()))
        meanwhile()
        self._processes.wait_ready("kube-apiserver", lambda: self._probe("/readyz"), START_TIMEOUT_S)
        self._processes.start(Command("kube-controller-manager", self._controller_manager()))

    def wait_for_controllers(self) -> None:
        """Return when the controller-manager has made the first service account: pods can be admitted from then on.

        Raises:
            SetupError: It ended, or did not come up.
        """
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        self._processes.wait_ready("kube-controller-manager", lambda: self._probe(path), START_TIMEOUT_S)

    def _ask(self, path: str) -> bool:
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(self.admin.certificate, self.admin.key)
        try:
            with httpx.Client(verify=context, trust_env=False, timeout=_REQUEST_TIMEOUT_S) as client:
                return client.get(f"{self.address.server}{path}").is_success
        except httpx.TransportError:
            return False

    def client(self, name: str, subject: str) -> Path:
        """Make a kubeconfig for one more client of the API server and return its path.

        Args:
            name: Of the file.
            subject: As openssl writes it: `/CN=system:kube-scheduler`.
        """
        path = self._home / "kubeconfigs" / name
        kubeconfig.write(path, self.address.server, self.authority.certificate, self.authority.sign(name, subject))
        return path

    def _program(self, name: str) -> Path:
        if name not in self._programs:
            self._programs[name] = tool(name, self._say)
        return self._programs[name]

    def _make_certificates(self) -> None:
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        names.append("kubernetes.default.svc.cluster.local")
        addresses = dict.fromkeys([ports.LOOPBACK, self.address.host, _FIRST_SERVICE])
        here = [*(f"IP:{host}" for host in addresses), *(f"DNS:{name}" for name in names)]
        self.authority.create()
        self.authority.sign("apiserver", "/CN=kube-apiserver", here)
        self.authority.sign("apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        self.authority.sign("service-accounts", "/CN=service-accounts")
        admin = self.authority.sign("admin", "/O=system:masters/CN=admin")
        kubeconfig.write(self.kubeconfig, self.address.server, self.authority.certificate, admin)
        etcd = Authority(self._home / "pki", "etcd-ca", self._program("openssl"))
        etcd.create()
        etcd.sign("etcd", "/CN=etcd", [f"IP:{ports.LOOPBACK}"])
        etcd.sign("apiserver-to-etcd", "/CN=kube-apiserver")

    def _etcd(self) -> Sequence[str]:
        pki = self._home / "pki"
        peer = f"https://{ports.LOOPBACK}:{self.address.etcd_peer_port}"
        client = f"https://{ports.LOOPBACK}:{self.address.etcd_port}"
        return [
            str(self._program("etcd")),
            f"--data-dir={self._home / 'etcd'}",
            "--name=k2",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=k2={peer}",
            f"--cert-file={pki / 'etcd.crt'}",
            f"--key-file={pki / 'etcd.key'}",
            f"--trusted-ca-file={pki / 'etcd-ca.crt'}",
            "--client-cert-auth",
            f"--peer-cert-file={pki / 'etcd.crt'}",
            f"--peer-key-file={pki / 'etcd.key'}",
            f"--peer-trusted-ca-file={pki / 'etcd-ca.crt'}",
            "--peer-client-cert-auth",
            "--logger=zap",
            "--log-level=warn",
        ]

    def _api_server(self) -> Sequence[str]:
        pki = self._home / "pki"
        # Loopback cannot be an endpoint of the Service `kubernetes`.
        place = ["--endpoint-reconciler-type=none"]
        if self.address.fixed:
            place = [f"--advertise-address={self.address.host}"]
        return [
            str(self._program("kube-apiserver")),
            f"--bind-address={self.address.host}",
            f"--secure-port={self.address.api_port}",
            *place,
            f"--etcd-servers=https://{ports.LOOPBACK}:{self.address.etcd_port}",
            f"--etcd-cafile={pki / 'etcd-ca.crt'}",
            f"--etcd-certfile={pki / 'apiserver-to-etcd.crt'}",
            f"--etcd-keyfile={pki / 'apiserver-to-etcd.key'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={self.authority.certificate}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--kubelet-client-certificate={pki / 'apiserver-to-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-to-kubelet.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-accounts.crt'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            f"--service-cluster-ip-range={self._services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--anonymous-auth=false",
            "--profiling=false",
        ]

    def _controller_manager(self) -> Sequence[str]:
        pki = self._home / "pki"
        own = self.client("controller-manager", "/CN=system:kube-controller-manager")
        return [
            str(self._program("kube-controller-manager")),
            f"--kubeconfig={own}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ]
