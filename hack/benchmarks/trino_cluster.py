"""A Trino of a coordinator and workers on loopback, each a process of its own; for `scale-out`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from k2_cli.stack import ports
from k2_cli.stack.process import ManagedProcess
from onenode.java import VECTOR_MODULE, find_java
from onenode.tools import tool

HEAP_MB: Final = 1280
USER: Final = "bench"
_START_TIMEOUT_S: Final = 240.0
_ANSWER_TIMEOUT_S: Final = 300.0


@dataclass(slots=True)
class Cluster:
    """What runs.

    Args:
        directory: Where everything of it lies.
        url: Of the coordinator, which does no work of its own.
        processes: The coordinator and then its workers.
    """

    directory: Path
    url: str
    processes: list[ManagedProcess] = field(default_factory=list)
    _shared: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    @property
    def workers(self) -> list[ManagedProcess]:
        """Those that work."""
        return self.processes[1:]

    def add(self) -> None:
        """Start one more process; the first is the coordinator."""
        number = len(self.processes)
        own = int(self.url.rpartition(":")[2])
        port = own if number == 0 else ports.find_free(f"bench trino {number}", avoid=frozenset({own}))
        where = self.directory / f"trino-{number}"
        self.processes.append(_start(where, self.url, port, self._shared, coordinator=number == 0))

    def query(self, text: str) -> list[list[Any]]:
        """Return the rows of a statement."""
        with httpx.Client(timeout=_ANSWER_TIMEOUT_S, headers={"X-Trino-User": USER}) as client:
            page = client.post(f"{self.url}/v1/statement", content=text).json()
            rows: list[list[Any]] = []
            while True:
                assert "error" not in page, page["error"]
                rows += page.get("data", [])
                if "nextUri" not in page:
                    return rows
                page = client.get(page["nextUri"]).json()

    def active(self) -> int:
        """Return how many workers take part."""
        nodes = "SELECT count(*) FROM system.runtime.nodes WHERE state = 'active' AND NOT coordinator"
        return int(self.query(nodes)[0][0])


@contextmanager
def started(directory: Path) -> Iterator[Cluster]:
    """Start a coordinator and a worker; return when the coordinator answers. All that was started ends with the block.

    Raises:
        SetupError: Java or the download is missing, or it did not start.
    """
    cluster = Cluster(directory, f"http://{ports.LOOPBACK}:{ports.find_free('bench trino')}")
    try:
        cluster.add()
        cluster.add()
        cluster.processes[0].wait_ready(lambda: _answers(cluster.url), timeout_s=_START_TIMEOUT_S)
        yield cluster
    finally:
        for process in reversed(cluster.processes):
            process.stop()


def _start(directory: Path, url: str, port: int, shared: str, *, coordinator: bool) -> ManagedProcess:
    home = tool("trino").parents[1]
    directory.mkdir()
    properties: dict[str, object] = {
        "node.environment": "bench",
        "node.id": directory.name,
        "node.bind-ip": ports.LOOPBACK,
        "node.internal-address": ports.LOOPBACK,
        "plugin.dir": home / "plugin",
        "coordinator": str(coordinator).lower(),
        "discovery.uri": url,
        "http-server.http.port": port,
        "internal-communication.shared-secret": shared,
        "catalog.management": "dynamic",
        "query.max-memory-per-node": "512MB",
        "memory.heap-headroom-per-node": "256MB",
    }
    if coordinator:
        properties |= {"node-scheduler.include-coordinator": "false", "catalog.store": "memory"}
    (directory / "config.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    (directory / "log.properties").write_text("=WARN\n")
    options = [
        f"-Xmx{HEAP_MB}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={directory}",
        f"--add-modules={VECTOR_MODULE}",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Djdk.attach.allowAttachSelf=true",
        f"-Dconfig={directory / 'config.properties'}",
        f"-Dlog.levels-file={directory / 'log.properties'}",
    ]
    command = [str(find_java()), *options, "-cp", f"{home / 'lib'}/*", "io.trino.server.TrinoServer"]
    log = directory / "trino.log"
    process = ManagedProcess(name=f"Trino {directory.name}", command=command, log=log, cwd=directory, stop_timeout_s=30)
    process.start()
    return process


def _answers(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/v1/info", timeout=5)
    except httpx.TransportError:
        return False
    return answer.is_success and answer.json()["starting"] is False
