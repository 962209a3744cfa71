"""Kubeconfig files: who connects to which API server with which certificate.

Called by the control plane and the node. The keys are inside, so each file has mode 0600 from its first byte on.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import yaml

from onenode.certificates import Pair

NAME = "k2"
"""Of cluster, user and context in each file."""


def render(server: str, authority: bytes, certificate: bytes, key: bytes) -> str:
    """Write a kubeconfig that holds everything itself.

    Args:
        server: `https://host:port`.
        authority: PEM that the server's certificate is verified against.
        certificate: PEM of the client.
        key: PEM of the client.
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{"name": NAME, "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}],
        "users": [
            {
                "name": NAME,
                "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
            }
        ],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
    }
    return yaml.safe_dump(document, sort_keys=False)


def write(path: Path, server: str, authority: Path, client: Pair) -> None:
    """Write a kubeconfig that only its owner can read."""
    text = render(server, authority.read_bytes(), client.certificate.read_bytes(), client.key.read_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
