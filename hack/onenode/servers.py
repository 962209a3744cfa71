"""Real servers beside a one-node cluster, in its network: Kafka, schema registry, PostgreSQL, S3, Redis, exchange.

Owns `servers/` in the cluster's folder with `servers.json`, which says how pods reach them. Called by
`hack/cluster servers` and by tests, as root. Pods use Services in the namespace `k2-dev`; passwords are made anew for
each cluster. The network has no way out and is root's alone: the protocols are plain inside.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from k2_cli.stack.artifacts import ensure_jars
from k2_cli.stack.java import find_java
from k2_cli.stack.kafka_config import DATA_DIR, TEMP_DIR, class_path, jvm_options, server_properties
from k2_cli.stack.ports import LOOPBACK
from k2_core.errors import SetupError
from onenode.cluster import Cluster
from onenode.network import NODE_ADDRESS
from onenode.node import places, run
from onenode.node_config import documents, outside_service
from onenode.processes import Command, Processes
from onenode.tools import Say, say_on_stderr, tool
from support.registry import API_PATH, ensure_registry

NAMESPACE: Final = "k2-dev"
PORTS: Final[Mapping[str, int]] = {
    "kafka": 9092,
    "registry": 8081,
    "postgres": 5432,
    "s3": 9000,
    "redis": 6379,
    "exchange": 9443,
}
"""Of each server, on the node's address and of its Service."""
BUCKET: Final = "warehouse"
DATABASE: Final = "postgres"
"""The one that a new server has."""
_CONTROLLER_PORT: Final = 9093
_HEAP_MB: Final = 512
_START_TIMEOUT_S: Final = 90.0
_INIT_TIMEOUT_S: Final = 120.0
_UNPRIVILEGED: Final = "nobody"
"""PostgreSQL refuses to run as root."""
_FILE: Final = "servers.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the servers ask for."""

    postgres_password: str
    redis_password: str
    s3_access_key: str
    s3_secret_key: str

    @classmethod
    def new(cls) -> Credentials:
        """Make some that nobody can guess."""
        access_key = f"K2{secrets.token_hex(9).upper()}"
        return cls(secrets.token_hex(16), secrets.token_hex(16), access_key, secrets.token_hex(20))


def describe(names: Iterable[str], credentials: Credentials) -> dict[str, str]:
    """How pods reach the servers, by what a pipeline or a secret needs.

    Args:
        names: The servers that run.
        credentials: Of those that ask for some.
    """
    host = {name: f"{name}.{NAMESPACE}.svc.cluster.local:{PORTS[name]}" for name in PORTS}
    password = credentials.postgres_password
    everything = {
        "kafka": {"kafka_bootstrap": host["kafka"]},
        "registry": {"registry_url": f"http://{host['registry']}{API_PATH}"},
        "postgres": {"catalog_uri": f"postgresql+psycopg://k2:{password}@{host['postgres']}/{DATABASE}"},
        "s3": {
            "s3_endpoint": f"http://{host['s3']}",
            "s3_warehouse": f"s3://{BUCKET}/k2",
            "s3_access_key": credentials.s3_access_key,
            "s3_secret_key": credentials.s3_secret_key,
        },
        "redis": {"redis_url": f"redis://:{credentials.redis_password}@{host['redis']}/0"},
        "exchange": {"exchange": host["exchange"]},
    }
    return {key: value for name in names for key, value in everything[name].items()}


class Servers:
    """The servers of one cluster.

    Args:
        cluster: A cluster with a node of its own network.
        say: Told about every step that takes seconds.

    Raises:
        SetupError: It has no network of its own.
    """

    def __init__(self, cluster: Cluster, *, say: Say = say_on_stderr) -> None:
        if not cluster.enter:
            raise SetupError(f"found no network in {cluster.dir}, expected a whole cluster from `hack/cluster up`")
        self._cluster = cluster
        self._say = say
        self._home = Path(cluster.dir) / "servers"
        self._processes = Processes(Path(cluster.dir), enter=cluster.enter)
        self._run = places(Path(cluster.dir), cluster.name).run

    def up(self, names: Sequence[str], exchange: Sequence[str] = ()) -> dict[str, str]:
        """Start servers that do not run yet, and return how pods reach all that run.

        Args:
            names: Keys of PORTS.
            exchange: More arguments of `k2 exchange`.

        Raises:
            SetupError: One cannot be had or did not start.
        """
        self._home.mkdir(exist_ok=True, mode=0o700)
        credentials = self._credentials()
        commands: Mapping[str, Callable[[], Command]] = {
            "kafka": self._kafka,
            "registry": self._registry,
            "postgres": lambda: self._postgres(credentials),
            "s3": lambda: self._s3(credentials),
            "redis": lambda: self._redis(credentials),
            "exchange": lambda: self._exchange(exchange),
        }
        wanted = [name for name in names if not self._processes.running(name)]
        for name in wanted:
            self._processes.start(commands[name]())
        self._publish(wanted)
        for name in wanted:
            self._processes.wait_ready(name, partial(self._listens, PORTS[name]), _START_TIMEOUT_S)
        return describe(self.running(), credentials)

    def running(self) -> list[str]:
        """Names of the servers that run."""
        return [name for name in PORTS if self._processes.running(name)]

    def stop(self, names: Iterable[str]) -> None:
        """Stop servers; what they hold stays until the cluster goes down."""
        for name in names:
            self._processes.stop(name)

    def _credentials(self) -> Credentials:
        file = self._home / _FILE
        if not file.exists():
            made = Credentials.new()
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                json.dump({name: getattr(made, name) for name in Credentials.__slots__}, stream)
        return Credentials(**json.loads(file.read_text()))

    def _publish(self, names: Sequence[str]) -> None:
        objects: list[dict[str, object]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
        for name in names:
            objects += outside_service(name, NAMESPACE, [(name, PORTS[name], PORTS[name], "TCP")])
        kubectl = [str(tool("kubectl")), f"--kubeconfig={self._cluster.kubeconfig}"]
        run([*self._cluster.enter, *kubectl, "apply", "--server-side", "--filename=-"], documents(objects))

    def _listens(self, port: int) -> bool:
        program = f"import socket; socket.create_connection(('{NODE_ADDRESS}', {port}), 2).close()"
        command = [*self._cluster.enter, "python3", "-I", "-S", "-c", program]
        return subprocess.run(command, capture_output=True, timeout=_START_TIMEOUT_S, check=False).returncode == 0

    def _kafka(self) -> Command:
        java, home = find_java(), self._home / "kafka"
        (home / TEMP_DIR).mkdir(parents=True, exist_ok=True)
        properties = server_properties(PORTS["kafka"], _CONTROLLER_PORT)
        client = f"PLAINTEXT://{LOOPBACK}:{PORTS['kafka']}"
        (home / "server.properties").write_text(properties.replace(client, client.replace(LOOPBACK, NODE_ADDRESS)))
        command = [str(java.executable), *jvm_options(java, _HEAP_MB), *class_path(ensure_jars(self._say))]
        if not (home / DATA_DIR / "meta.properties").exists():
            identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            options = ["format", f"--cluster-id={identity}", f"--config={home / 'server.properties'}"]
            self._call([*command, "kafka.tools.StorageTool", *options], home)
        return Command("kafka", [*command, "kafka.Kafka", "server.properties"], cwd=home)

    def _registry(self) -> Command:
        options = ["-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx256m"]
        environment = {
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",
            "QUARKUS_HTTP_HOST": NODE_ADDRESS,
            "QUARKUS_HTTP_PORT": str(PORTS["registry"]),
            "QUARKUS_MANAGEMENT_HOST": LOOPBACK,
            "QUARKUS_MANAGEMENT_PORT": "0",
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        }
        jar = ensure_registry() / "quarkus-run.jar"
        return Command("registry", [str(find_java().executable), *options, "-jar", str(jar)], environment)

    def _postgres(self, credentials: Credentials) -> Command:
        # The cluster's folder is closed to others; this one is not.
        home = self._run / "postgres"
        data = home / "data"
        unprivileged = [
            "setpriv",
            f"--reuid={_UNPRIVILEGED}",
            f"--regid={pwd.getpwnam(_UNPRIVILEGED).pw_gid}",
            "--clear-groups",
        ]
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(mode=0o700)
            password = home / "password"
            password.touch(mode=0o600)
            password.write_text(credentials.postgres_password)
            for path in (home, password):
                shutil.chown(path, _UNPRIVILEGED)
            options = ["--username=k2", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync", f"--pgdata={data}"]
            self._call([*unprivileged, str(tool("initdb")), *options], home)
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
        settings = {
            "listen_addresses": NODE_ADDRESS,
            "port": str(PORTS["postgres"]),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Command("postgres", [*unprivileged, str(tool("postgres")), "-D", str(data), *options], cwd=home)

    def _s3(self, credentials: Credentials) -> Command:
        buckets = self._home / "s3"
        (buckets / BUCKET).mkdir(parents=True, exist_ok=True)
        keys = {"ROOT_ACCESS_KEY_ID": credentials.s3_access_key, "ROOT_SECRET_ACCESS_KEY": credentials.s3_secret_key}
        options = ["--quiet", "--port", f"{NODE_ADDRESS}:{PORTS['s3']}", "posix", str(buckets)]
        return Command("s3", [str(tool("versitygw", self._say)), *options], keys)

    def _redis(self, credentials: Credentials) -> Command:
        config = self._home / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind {NODE_ADDRESS}\nport {PORTS['redis']}\nrequirepass {credentials.redis_password}\n"
            f'save ""\nappendonly no\ndir {self._home}\n'
        )
        return Command("redis", [str(tool("redis-server", self._say)), str(config)])

    def _exchange(self, more: Sequence[str]) -> Command:
        options = ["--host", NODE_ADDRESS, "--port", str(PORTS["exchange"]), "--keep-open", *more]
        return Command("exchange", [shutil.which("python") or "python3", "-m", "k2_cli", "exchange", *options])

    def _call(self, command: Sequence[str], cwd: Path) -> None:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_INIT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            said = (done.stdout + done.stderr)[-800:]
            raise SetupError(f"`{Path(command[0]).name}` ended with {done.returncode}, expected 0: {said}")
