"""A real schema registry on loopback for tests: Apicurio with its Confluent API, in memory.

Fetched once (158 MB) into K2's cache folder, through the same door to Maven as Kafka's jars. The fixture `registry` is
in tests/conftest.py; its schemas live as long as the session, so tests use subjects of their own (`unique_topic`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import tarfile
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Final

import httpx

from k2_cli.stack import ports
from k2_cli.stack.artifacts import cache_root
from k2_cli.stack.java import find_java
from k2_cli.stack.maven import maven_context
from k2_cli.stack.process import ManagedProcess
from k2_core.errors import SetupError
from k2_core.types import TopicName
from support.lacking import needed

VERSION: Final = "3.3.3"
SHA256: Final = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
API_PATH: Final = "/apis/ccompat/v7"
MINIMUM_JAVA: Final = 21
_START_TIMEOUT_S: Final = 90.0
"""6 s on an idle machine of two cores."""


class LocalRegistry:
    """One registry process on 127.0.0.1; what is registered is gone when it stops.

    Args:
        directory: Where its log goes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = ports.find_free(str(directory))
        self._process: ManagedProcess | None = None

    @property
    def url(self) -> str:
        """Base URL of the Confluent API."""
        return f"http://{ports.LOOPBACK}:{self.port}{API_PATH}"

    def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            SetupError: Java or the download is missing, or it did not start.
        """
        java = find_java()
        if java.major < MINIMUM_JAVA:
            raise SetupError(f"found Java {java.version}, expected {MINIMUM_JAVA} or newer for the schema registry")
        options = ["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx256m"]
        self._process = ManagedProcess(
            name="the schema registry",
            command=[str(java.executable), *options, "-jar", str(ensure_registry() / "quarkus-run.jar")],
            log=self._directory / "registry.log",
            env=os.environ | self._environment(),
        )
        self._process.start()
        try:
            self._process.wait_ready(self._answers, timeout_s=_START_TIMEOUT_S)
        except SetupError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; may be called at any time."""
        if self._process is not None:
            self._process.stop()

    def _environment(self) -> dict[str, str]:
        return {
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",
            "QUARKUS_HTTP_HOST": ports.LOOPBACK,
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": ports.LOOPBACK,
            "QUARKUS_MANAGEMENT_PORT": "0",
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        }

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=2).is_success
        except httpx.TransportError:
            return False


def start_or_skip(registry: LocalRegistry) -> None:
    """Start the registry; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("the schema registry"):
        registry.start()


def unique_topic(name: str = "test") -> TopicName:
    """Return a topic name that no other test has, for a subject of one's own."""
    return TopicName(f"{name}-{uuid.uuid4().hex[:12]}")


def ensure_registry() -> Path:
    """Return the folder of the unpacked registry, fetched if it is missing.

    Raises:
        SetupError: It could not be fetched, or is not what was locked.
    """
    target = cache_root() / f"apicurio-{VERSION}-{SHA256[:16]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / "apicurio.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be fetching it
            if not target.exists():
                _fetch(target)
    except OSError as error:
        raise SetupError(f"cannot keep the schema registry in {target}: {error}") from error
    return target


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fetch-apicurio-", dir=target.parent) as scratch:
        component = maven_context(Path(scratch)).project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
        try:
            archive = Path(component.artifact("all", "tar.gz").resolve())
        except RuntimeError as error:  # jgo's word for "in no repository"
            raise SetupError(f"could not fetch the schema registry: {error}") from error
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != SHA256:
            raise SetupError(f"schema registry {VERSION}: found SHA-256 {found}, expected {SHA256}")
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archive) as content:
            content.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
            content.extractall(unpacked)  # noqa: S202  # its digest is known
        shutil.move(unpacked, target)


class Relay:
    """A loopback port that leads to another one while it is open, and refuses connections while it is closed.

    Tests close it to take a server away from a client, without stopping the server for everybody else.
    """

    def __init__(self, target_port: int) -> None:
        self._target = (ports.LOOPBACK, target_port)
        self.port = ports.find_free(f"relay to {target_port} {uuid.uuid4()}")
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    def open(self) -> None:
        """Let connections through."""
        self._listener = socket.create_server((ports.LOOPBACK, self.port))
        self._spawn(self._accept, self._listener)

    def close(self) -> None:
        """Break all connections and refuse new ones."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            _shut(connection)
        for thread in list(self._threads):
            thread.join()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._threads.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(self._target)
            self._connections += [near, far]
            self._spawn(_pump, near, far)
            self._spawn(_pump, far, near)

    def _spawn(self, work: object, *arguments: socket.socket) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, name="relay", daemon=True)
        self._threads.append(thread)
        thread.start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:  # the other side is gone
        pass
    _shut(sink)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is down already
        return
