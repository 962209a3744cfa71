"""A real Trino on loopback for tests, with the Iceberg connector, TLS, passwords and tokens. The fixture is `trino`.

Fetched once (820 MB) into K2's tool cache. It takes catalogs while it runs (`LocalTrino.catalog`), so that every test
can have one over a database and a bucket of its own. Mark its users `trino`: they are a part of `hack/test` by
themselves.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from k2_cli.certificates import certified
from k2_cli.stack import ports
from k2_cli.stack.process import ManagedProcess
from k2_core.config import ServiceSettings
from k2_core.errors import SetupError
from onenode.java import VECTOR_MODULE, find_java
from onenode.tools import tool
from support.lacking import needed
from support.postgres import SHIBBOLETH as DATABASE_SHIBBOLETH
from support.postgres import USER as DATABASE_USER
from support.s3 import ACCESS_KEY, SIGNING_KEY
from support.waiting import wait_until

USER: Final = "k2"
SHIBBOLETH: Final = "k2-trino-shibboleth"
OUTSIDER: Final = "outsider"
"""A user who may see no catalog."""
NEEDED_MEMORY_GB: Final = 6
_RULES: Final = {
    "catalogs": [{"user": OUTSIDER, "allow": "none"}, {"allow": "owner"}],
    "procedures": [{"privileges": ["EXECUTE"]}],
}
_REFRESH_S: Final = 1
_HEAP_MB: Final = 1024
_START_TIMEOUT_S: Final = 180.0
"""15 s on an idle machine of two cores."""
_ITERATIONS: Final = 1000
_CERTIFIED_DAYS: Final = 2


@dataclass
class LocalTrino:
    """One coordinator that is its own worker, on 127.0.0.1; `stop` and `start` are an outage.

    Without TLS it takes any user's word for who they are; with TLS it asks for a password or a token.

    Args:
        directory: Where everything of it lies.
    """

    directory: Path
    port: int = 0
    tls_port: int = 0
    _process: ManagedProcess | None = field(default=None, repr=False)
    _token_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def url(self) -> str:
        """Where it answers without TLS."""
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def tls_url(self) -> str:
        """Where it answers with TLS."""
        return f"https://{ports.LOOPBACK}:{self.tls_port}"

    @property
    def ca_file(self) -> Path:
        """What signed its certificate."""
        return self.directory / "ca.crt"

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it and return when it answers; again on the same ports, without the catalogs that it had.

        Args:
            wait: Whether to wait until it answers.

        Raises:
            SetupError: Java, memory or the download is missing, or it did not start.
        """
        java = find_java()
        available_gb = psutil.virtual_memory().available / 1e9
        if available_gb < NEEDED_MEMORY_GB:
            raise SetupError(f"found {available_gb:.1f} GB of memory available, expected {NEEDED_MEMORY_GB} GB")
        home = tool("trino").parents[1]
        if not self.port:
            self.port = ports.find_free(str(self.directory))
            self.tls_port = ports.find_free(f"tls {self.directory}", avoid=frozenset({self.port}))
            self._configure(home)
        options = [
            f"-Xmx{_HEAP_MB}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:+UseSerialGC",  # on two cores it starts in half the time with these two
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            f"-Djava.io.tmpdir={self.directory}",
            f"--add-modules={VECTOR_MODULE}",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            "-Djdk.attach.allowAttachSelf=true",
            f"-Dconfig={self.directory / 'config.properties'}",
            f"-Dlog.levels-file={self.directory / 'log.properties'}",
        ]
        command = [str(java), *options, "-cp", f"{home / 'lib'}/*", "io.trino.server.TrinoServer"]
        log = self.directory / "trino.log"
        self._process = ManagedProcess(name="Trino", command=command, log=log, cwd=self.directory, stop_timeout_s=30)
        self._process.start()
        if not wait:
            return
        try:
            self._process.wait_ready(self._answers, timeout_s=_START_TIMEOUT_S)
        except SetupError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; may be called at any time."""
        if self._process is not None:
            self._process.stop()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def catalog(self, settings: ServiceSettings, more: Mapping[str, str] | None = None, **changes: str) -> str:
        """Make a catalog over the lake that settings name, and return its name.

        Args:
            settings: Catalog in PostgreSQL, warehouse on S3.
            more: Properties of the connector beside those that say where the lake is.
            changes: Properties of the connector that are to be others, with `_` for `.` and `-`.
        """
        properties = {**lake_properties(settings), **(more or {})}
        for name, value in changes.items():
            [known] = [key for key in properties if re.sub(r"\W", "_", key) == name]
            properties[known] = value
        name = f"lake_{uuid.uuid4().hex[:12]}"
        listed = ", ".join(f"\"{key}\" = '{value}'" for key, value in properties.items())
        self.query(f"CREATE CATALOG {name} USING iceberg WITH ({listed})")
        return name

    @contextmanager
    def guarded(self, rules: Mapping[str, Any]) -> Iterator[None]:
        """Have these rules say who may do what, until the end of the block."""
        try:
            (self.directory / "rules.json").write_text(json.dumps(rules))
            wait_until(lambda: not self._allows("SELECT 1"), "the rules to be in force")
            yield
        finally:
            (self.directory / "rules.json").write_text(json.dumps(_RULES))
            wait_until(lambda: self._allows("SELECT 1"), "the usual rules again")

    def _allows(self, text: str) -> bool:
        try:
            self.query(text)
        except AssertionError:
            return False
        return True

    def query(self, text: str, user: str = "tester") -> list[list[Any]]:
        """Return the rows of a statement, by Trino's own protocol and no client of it.

        Raises:
            AssertionError: Trino refused it.
        """
        with httpx.Client(timeout=60, headers={"X-Trino-User": user}) as client:
            page = client.post(f"{self.url}/v1/statement", content=text).json()
            rows: list[list[Any]] = []
            while True:
                assert "error" not in page, page["error"]
                rows += page.get("data", [])
                if "nextUri" not in page:
                    return rows
                page = client.get(page["nextUri"]).json()

    def queries(self, text: str) -> list[dict[str, Any]]:
        """Return what it knows of the queries that have this in their text, the newest last."""
        headers = {"X-Trino-User": "tester"}
        found = httpx.get(f"{self.url}/v1/query", headers=headers, timeout=30).json()
        return sorted((one for one in found if text in one["query"]), key=lambda one: str(one["queryId"]))

    def details(self, query_id: str) -> dict[str, Any]:
        """Return all that it knows of one query."""
        found = httpx.get(f"{self.url}/v1/query/{query_id}", headers={"X-Trino-User": "tester"}, timeout=30).json()
        assert isinstance(found, dict)
        return found

    def token(self, subject: str, valid_s: float = 3600) -> str:
        """Return a token that it takes for a user, or took if `valid_s` is negative."""
        parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": subject, "exp": int(time.time() + valid_s)}]
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in parts)
        signature = hmac.new(self._secret_line, signed, hashlib.sha256).digest()
        return (signed + b"." + _base64url(signature)).decode()

    @property
    def _secret_line(self) -> bytes:
        return base64.b64decode(base64.b64encode(self._token_key))

    def _configure(self, home: Path) -> None:
        made = certified("trino", [f"ip:{ports.LOOPBACK}", "dns:localhost"], _CERTIFIED_DAYS)
        self.ca_file.write_text(made.authority)
        (self.directory / "server.pem").write_text(made.key + made.certificate)
        (self.directory / "token.key").write_bytes(base64.b64encode(self._token_key))
        salt = secrets.token_bytes(16)
        digest = hashlib.pbkdf2_hmac("sha1", SHIBBOLETH.encode(), salt, _ITERATIONS)
        (self.directory / "passwords").write_text(f"{USER}:{_ITERATIONS}:{salt.hex()}:{digest.hex()}\n")
        files: Mapping[str, Mapping[str, object]] = {
            "log": {"": "WARN"},
            "passwords": {
                "password-authenticator.name": "file",
                "file.password-file": self.directory / "passwords",
            },
            "access": {
                "access-control.name": "file",
                "security.config-file": self.directory / "rules.json",
                "security.refresh-period": f"{_REFRESH_S}s",
            },
            "config": self._properties(home),
        }
        (self.directory / "rules.json").write_text(json.dumps(_RULES))
        for name, properties in files.items():
            lines = [f"{key}={value}\n" for key, value in properties.items()]
            (self.directory / f"{name}.properties").write_text("".join(lines))

    def _properties(self, home: Path) -> dict[str, object]:
        return {
            "node.environment": "test",
            "node.id": "test",
            # What it writes, it writes below its working directory.
            "node.bind-ip": ports.LOOPBACK,
            "node.internal-address": ports.LOOPBACK,
            "plugin.dir": home / "plugin",
            "coordinator": "true",
            "node-scheduler.include-coordinator": "true",
            "discovery.uri": self.url,
            "http-server.http.port": self.port,
            "http-server.https.enabled": "true",
            "http-server.https.port": self.tls_port,
            "http-server.https.keystore.path": self.directory / "server.pem",
            "http-server.authentication.type": "PASSWORD,JWT",
            "http-server.authentication.allow-insecure-over-http": "true",
            "http-server.authentication.jwt.key-file": self.directory / "token.key",
            "password-authenticator.config-files": self.directory / "passwords.properties",
            "access-control.config-files": self.directory / "access.properties",
            "internal-communication.shared-secret": secrets.token_hex(32),
            "catalog.management": "dynamic",
            "catalog.store": "memory",
            "query.max-memory-per-node": "256MB",
            "memory.heap-headroom-per-node": "256MB",
            "web-ui.enabled": "false",
        }

    def _answers(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/v1/info", timeout=5)
        except httpx.TransportError:
            return False
        return answer.is_success and answer.json()["starting"] is False


def lake_properties(settings: ServiceSettings) -> dict[str, str]:
    """Return the Iceberg connector's properties for the lake that settings name."""
    assert settings.catalog_uri is not None
    assert settings.warehouse is not None
    assert settings.s3_endpoint is not None
    address = settings.catalog_uri.get_secret_value().partition("@")[2]
    return {
        "iceberg.catalog.type": "jdbc",
        "iceberg.jdbc-catalog.catalog-name": "k2",
        "iceberg.jdbc-catalog.driver-class": "org.postgresql.Driver",
        "iceberg.jdbc-catalog.connection-url": f"jdbc:postgresql://{address}",
        "iceberg.jdbc-catalog.connection-user": DATABASE_USER,
        "iceberg.jdbc-catalog.connection-password": DATABASE_SHIBBOLETH,
        "iceberg.jdbc-catalog.default-warehouse-dir": settings.warehouse,
        "iceberg.expire-snapshots.min-retention": "0s",
        "iceberg.remove-orphan-files.min-retention": "0s",
        "fs.native-s3.enabled": "true",
        "s3.endpoint": settings.s3_endpoint,
        "s3.region": settings.s3_region,
        "s3.path-style-access": "true",
        "s3.aws-access-key": ACCESS_KEY,
        "s3.aws-secret-key": SIGNING_KEY,
    }


def start_or_skip(server: LocalTrino) -> None:
    """Start the server; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("Trino"):
        server.start()


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
