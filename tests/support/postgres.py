"""A real PostgreSQL on loopback for tests, from Debian's or any other installation. The fixture is `postgres`."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from k2_cli.stack import ports
from k2_cli.stack.process import ManagedProcess
from k2_core.errors import SetupError
from support.lacking import needed

USER: Final = "k2"
SHIBBOLETH: Final = "k2-test"
_START_TIMEOUT_S: Final = 30.0
_INIT_TIMEOUT_S: Final = 120
_UNPRIVILEGED: Final = "nobody"


@dataclass
class LocalPostgres:
    """One server on 127.0.0.1, with a password; `stop` and `start` are an outage.

    Its data are not below pytest's folder: each session of pytest closes that to all users but its own, and root must
    run this as somebody else.

    Args:
        directory: Where its log lies.
    """

    directory: Path
    port: int = 0
    _process: ManagedProcess | None = field(default=None, repr=False)
    _home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="k2-postgres-")))

    def start(self) -> None:
        """Start it and return when it answers; again on the same port.

        Raises:
            SetupError: It is not installed, or did not start.
        """
        programs = find_programs()
        if not self.port:
            self.port = ports.find_free(str(self.directory))
            self._initialise(programs)
        settings = {
            "listen_addresses": ports.LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "50",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*as_nobody(), str(programs / "postgres"), "-D", str(self._home / "data"), *options]
        log = self.directory / "postgres.log"
        self._process = ManagedProcess(name="PostgreSQL", command=command, log=log, stop_timeout_s=20, cwd=self._home)
        self._process.start()
        self._process.wait_ready(self._answers, timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop it; may be called at any time."""
        if self._process is not None:
            if self._process.running:
                self._process.send_signal(signal.SIGINT)  # at SIGTERM it would wait for its clients to leave
            self._process.stop()

    def database(self) -> str:
        """Make a database and return its URI."""
        name = f"k2_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.uri(name)

    def uri(self, database: str, password: str = SHIBBOLETH) -> str:
        """Return the URI of a database."""
        return f"postgresql://{USER}:{password}@{ports.LOOPBACK}:{self.port}/{database}"

    def remove(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self._home)

    def _initialise(self, programs: Path) -> None:
        secret = self._home / "password"
        secret.write_text(SHIBBOLETH)
        if os.geteuid() == 0:
            for path in (self._home, secret):
                shutil.chown(path, _UNPRIVILEGED)
        options = ["--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256", "--no-sync"]
        command = [*as_nobody(), str(programs / "initdb"), "-D", str(self._home / "data"), *options]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INIT_TIMEOUT_S, check=False, cwd=self._home
        )
        if done.returncode:
            raise SetupError(f"initdb ended with {done.returncode}, expected 0: {done.stderr.strip()[-300:]}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.uri("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def as_nobody() -> list[str]:
    """Return what makes root run a command as somebody else, which PostgreSQL insists on; nothing for others."""
    if os.geteuid():
        return []
    user = pwd.getpwnam(_UNPRIVILEGED)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def find_programs() -> Path:
    """Return the folder of initdb and postgres.

    Raises:
        SetupError: PostgreSQL is not installed.
    """
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        raise SetupError("found no PostgreSQL, expected the package postgresql (Debian) or initdb on PATH")
    return versions[-1].parent


def start_or_skip(server: LocalPostgres) -> None:
    """Start the server; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    with needed("PostgreSQL"):
        server.start()
