"""What is made is shown to Python's own TLS: a server that has it, and a client that trusts its authority alone."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from k2_cli import certificates
from k2_cli.certificates import Certificate, certified
from k2_cli.stack.java import JavaRuntime
from k2_core.errors import SetupError

HOST = "crypto-trino.markets.svc"


@pytest.fixture(scope="module")
def made() -> Certificate:
    return certified("crypto-trino", [f"dns:{HOST}"], 30)


def context(made: Certificate, folder: Path) -> ssl.SSLContext:
    pair = folder / "pair.pem"
    pair.write_text(made.key + made.certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair)
    return server


def shaken(made: Certificate, authority: str, name: str, folder: Path) -> dict[str, object]:
    """Return what a client sees of the server's certificate after a handshake."""
    ours, theirs = socket.socketpair()
    server = context(made, folder)

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as wrapped:
                wrapped.recv(1)
        except ssl.SSLError:
            theirs.close()  # what the client refused

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, ssl.create_default_context(cadata=authority).wrap_socket(ours, server_hostname=name) as wrapped:
            wrapped.send(b"x")
            return dict(wrapped.getpeercert() or {})
    finally:
        thread.join()


def test_a_client_that_trusts_the_authority_takes_the_server_by_its_name(made: Certificate, tmp_path: Path) -> None:
    found = shaken(made, made.authority, HOST, tmp_path)
    assert found["subjectAltName"] == (("DNS", HOST),)
    begin, end = (ssl.cert_time_to_seconds(str(found[name])) for name in ("notBefore", "notAfter"))
    assert end - begin == 30 * 24 * 3600


def test_under_another_name_or_another_authority_it_is_refused(made: Certificate, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shaken(made, made.authority, "other.svc", tmp_path)
    other = certified("crypto-trino", [f"dns:{HOST}"], 30)
    assert (other.key, other.authority) != (made.key, made.authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(made, other.authority, HOST, tmp_path)


def test_its_key_is_not_shown(made: Certificate) -> None:
    assert made.key.splitlines()[1] not in repr(made)


def test_a_key_that_the_password_does_not_open_is_refused() -> None:
    hidden = bytes(60)
    der = b"\x30\x43" + b"\x30\x03\x06\x01\x2a" + b"\x04\x3c" + hidden
    with pytest.raises(SetupError, match="found a key that its password does not open"):
        certificates._revealed(der, "guess")


def test_another_store_is_refused() -> None:
    with pytest.raises(SetupError, match="found a store of kind 00000001 version 2, expected JKS version 2"):
        list(certificates._entries(bytes.fromhex("000000010000000200000000")))


@pytest.mark.parametrize(
    ("hosts", "message"),
    [(["dns:not a name"], r"keytool ended with 1 and said .* expected a certificate of x"), (["host:x"], "keytool")],
    ids=["no name", "no kind of name"],
)
def test_what_keytool_refuses_is_said_in_its_words(hosts: list[str], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        certified("x", hosts, 1)


def test_a_java_without_keytool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(certificates, "find_java", lambda: JavaRuntime(tmp_path / "java", "25"))
    with pytest.raises(SetupError, match=r"keytool does not run: .*No such file.*; expected the keytool of a Java"):
        certified("x", ["dns:x"], 1)


def test_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    certified("x", ["dns:x"], 1)
    assert list(tmp_path.iterdir()) == []
