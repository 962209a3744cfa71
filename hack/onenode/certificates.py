"""Keys and certificates of one cluster, made by openssl.

Owns `pki/` below the cluster's folder (mode 0700). Called by the control plane and the node. Two authorities: etcd has
its own, so that a client of the API server is none of etcd's. Nothing of it is meant to outlive the cluster.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError

DAYS: Final = 30
"""A cluster of one machine is made anew far more often."""
_EC: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256")
_CONFIG: Final = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\n"
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates in one folder.

    Args:
        directory: Where files go; made with mode 0700.
        name: Of the authority's own files.
        openssl: The program.
    """

    directory: Path
    name: str
    openssl: Path

    @property
    def certificate(self) -> Path:
        """What clients trust."""
        return self._pair(self.name).certificate

    def create(self) -> None:
        """Make the authority's own key and certificate."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / "openssl.cnf").write_text(_CONFIG)
        extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        self._request(self.name, f"/CN=k2-{self.name}", extensions)

    def sign(self, name: str, subject: str, alternative_names: Sequence[str] = ()) -> Pair:
        """Make a key and a certificate for it.

        Args:
            name: Of the files.
            subject: As openssl writes it: `/O=system:masters/CN=admin`.
            alternative_names: For a server: `IP:127.0.0.1`, `DNS:localhost`; without any it is a client.
        """
        extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=clientAuth" + (",serverAuth" if alternative_names else ""),
            "authorityKeyIdentifier=keyid",
        ]
        if alternative_names:
            extensions.append(f"subjectAltName={','.join(alternative_names)}")
        own = self._pair(self.name)
        self._request(name, subject, extensions, ["-CA", str(own.certificate), "-CAkey", str(own.key)])
        return self._pair(name)

    def _pair(self, name: str) -> Pair:
        return Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def _request(self, name: str, subject: str, extensions: Sequence[str], more: Sequence[str] = ()) -> None:
        pair = self._pair(name)
        added = [part for extension in extensions for part in ("-addext", extension)]
        command = [str(self.openssl), "req", "-x509", "-config", str(self.directory / "openssl.cnf"), *_EC, *more]
        command += ["-days", str(DAYS), "-subj", subject, *added]
        command += ["-keyout", str(pair.key), "-out", str(pair.certificate)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise SetupError(f"openssl could not make the certificate of {name}: {done.stderr.strip()[-400:]}")
        pair.key.chmod(0o600)
