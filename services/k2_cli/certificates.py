"""A certificate for one server and the authority that signed it, made by Java's `keytool`.

None of K2's packages makes certificates, but one is a Java runtime, for Kafka, which brings a program that does. That
keeps a key in a store and gives it to no one, so this reads the store (JKS, which needs no cipher but SHA-1). Keys and
signatures are Java's alone. Called by `k2_cli.trino_secrets`; what it writes lies in a folder that goes at once.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from k2_cli.stack.java import find_java
from k2_core.errors import SetupError

_PASSWORD: Final = "K2_STORE_PASSWORD"  # noqa: S105  # the variable in which keytool finds it
_TIMEOUT_S: Final = 60.0
_MAGIC: Final = 0xFEEDFEED
_VERSION: Final = 2
_DIGEST_BYTES: Final = 20
"""Of SHA-1: the salt before a key in the store, and the check behind it."""
_PEM_COLUMNS: Final = 64


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate. All of it PEM.

    Args:
        key: PKCS #8, not encrypted.
        certificate: The server's alone.
        authority: What clients are to trust. Its own key is gone.
    """

    key: str = field(repr=False)
    certificate: str
    authority: str


def certified(name: str, hosts: Sequence[str], days: int) -> Certificate:
    """Return a new certificate of a new authority, each with a key of its own (P-256).

    Args:
        name: Of the server, in the certificates' subjects.
        hosts: By which clients reach it: `dns:trino.markets.svc`, `ip:127.0.0.1`.
        days: For how long both are valid.

    Raises:
        SetupError: No Java is there, or its keytool did not work.
    """
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="k2-") as folder:  # nobody else may read it
        store = Path(folder) / "store"
        of_authority = ("-ext", "bc:c=ca:true,pathlen:0", "-ext", "ku:c=keyCertSign,cRLSign")
        _keytool(store, password, "ca", f"{name}-ca", days, *of_authority)
        of_server = ("-ext", f"san={','.join(hosts)}", "-ext", "ku:c=digitalSignature", "-ext", "eku=serverAuth")
        _keytool(store, password, "server", name, days, "-signer", "ca", "-signerkeypass:env", _PASSWORD, *of_server)
        entries = dict(_entries(store.read_bytes()))
    protected, chain = entries["server"]
    return Certificate(
        key=_pem("PRIVATE KEY", _revealed(protected, password)),
        certificate=_pem("CERTIFICATE", chain[0]),
        authority=_pem("CERTIFICATE", entries["ca"][1][0]),
    )


def _keytool(store: Path, password: str, alias: str, name: str, days: int, *more: str) -> None:
    program = find_java().executable.resolve().parent / "keytool"
    command = [str(program), "-J-XX:-UsePerfData", "-genkeypair", "-alias", alias, "-dname", f"CN={name}"]
    command += ["-storetype", "JKS", "-keystore", str(store), "-storepass:env", _PASSWORD, "-keypass:env", _PASSWORD]
    command += ["-keyalg", "EC", "-groupname", "secp256r1", "-sigalg", "SHA256withECDSA", "-validity", str(days)]
    environment = os.environ | {_PASSWORD: password}
    try:
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{program} does not run: {error}; expected the keytool of a Java runtime") from error
    if done.returncode != 0:
        said = " ".join((done.stdout + done.stderr).split())[-400:]
        raise SetupError(f"keytool ended with {done.returncode} and said {said!r}, expected a certificate of {name}")


# The store: big-endian, each key with its chain of certificates, as sun.security.provider.JavaKeyStore writes it.


def _entries(store: bytes) -> Iterator[tuple[str, tuple[bytes, list[bytes]]]]:
    """Yield name, protected key and chain of certificates of each entry of a store."""
    magic, version, entries = struct.unpack_from(">III", store)
    if (magic, version) != (_MAGIC, _VERSION):
        raise SetupError(f"found a store of kind {magic:08x} version {version}, expected JKS version {_VERSION}")
    at = 12

    def taken(form: str) -> bytes:
        """Return what comes next, behind its own length."""
        nonlocal at
        [length] = struct.unpack_from(form, store, at)
        begin = at + struct.calcsize(form)
        at = begin + length
        return store[begin:at]

    for _ in range(entries):
        at += 4  # the kind of entry: there are none but keys
        alias = taken(">H").decode()
        at += 8  # when it was made
        key = taken(">I")
        [length] = struct.unpack_from(">I", store, at)
        at += 4
        chain = []
        for _ in range(length):
            taken(">H")  # "X.509"
            chain.append(taken(">I"))
        yield alias, (key, chain)


def _revealed(protected: bytes, password: str) -> bytes:
    """Return the PKCS #8 key that a store protects: salt, key XOR a chain of digests, check.

    Raises:
        SetupError: It is not what this password protects.
    """
    # The last of EncryptedPrivateKeyInfo's two parts is an OCTET STRING; the first, the algorithm, is always this one.
    body = protected[_header_bytes(protected, 0) :]
    body = body[_header_bytes(body, 0) + _length(body, 0) :]
    body = body[_header_bytes(body, 0) :]
    salt, hidden, check = body[:_DIGEST_BYTES], body[_DIGEST_BYTES:-_DIGEST_BYTES], body[-_DIGEST_BYTES:]
    secret = password.encode("utf-16-be")
    stream, link = b"", salt
    while len(stream) < len(hidden):
        link = hashlib.sha1(secret + link).digest()  # noqa: S324  # the store's own form, of a file that is gone already
        stream += link
    key = bytes(one ^ other for one, other in zip(hidden, stream, strict=False))
    if hashlib.sha1(secret + key).digest() != check:  # noqa: S324  # as above
        raise SetupError("found a key that its password does not open, expected the one that was just made")
    return key


def _length(der: bytes, at: int) -> int:
    first = der[at + 1]
    return first if first < 0x80 else int.from_bytes(der[at + 2 : at + 2 + (first & 0x7F)], "big")


def _header_bytes(der: bytes, at: int) -> int:
    first = der[at + 1]
    return 2 if first < 0x80 else 2 + (first & 0x7F)


def _pem(kind: str, der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + _PEM_COLUMNS] for at in range(0, len(text), _PEM_COLUMNS)]
    return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""))
