"""A real one-node Kafka on loopback: formatted once, started, checked, stopped, recovered after a crash.

Owns `LocalKafka`, and below the directory given to it `kafka/` (data, properties, state) and `log/kafka.log`. Called by
`k2 up`, tests and benchmarks. It never creates topics, and never deletes data: `k2 reset` removes the folder.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from k2_cli.stack import ports
from k2_cli.stack.artifacts import Progress, ensure_jars
from k2_cli.stack.java import find_java
from k2_cli.stack.kafka_config import DATA_DIR, TEMP_DIR, class_path, jvm_options, server_properties
from k2_cli.stack.lock import FolderLock
from k2_cli.stack.process import ManagedProcess
from k2_cli.stack.start_cache import ensure_start_cache, record_option
from k2_core.errors import SetupError

if TYPE_CHECKING:
    from types import TracebackType

_START_TIMEOUT_S = 60.0
"""2 s on an idle machine; a start after a crash checks every segment that was open."""
_STOP_TIMEOUT_S = 15.0
_FORMAT_TIMEOUT_S = 60.0
_CHECK_TIMEOUT_S = 0.25
_GROUP_CHECK_TIMEOUT_S = 2.0
_PROBE_GROUP = "k2-probe"
"""Never joined by anybody: asking for it is harmless."""
_RECORD_TIMEOUT_S = 120.0


class LocalKafka:
    """One broker and controller in one JVM, on 127.0.0.1 only.

    Data, cluster id and, while it stays free, the port outlive `stop` and a kill, so that clients reconnect. Not
    thread-safe.

    Args:
        directory: The embedded state's folder; made if need be. One LocalKafka at a time may be started on it.
        port: Where clients connect; None keeps the port used last in this directory, or takes a free one.
        heap_mb: Upper bound of the JVM's heap, in MiB.
        progress: Told one line about every step that takes seconds (the first start fetches 45 MB).
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        heap_mb: int = 384,
        progress: Progress = lambda _: None,
    ) -> None:
        self.directory = directory.absolute()
        self._requested_port = port
        self._heap_mb = heap_mb
        self._progress = progress
        self._home = self.directory / "kafka"
        self._port: int | None = None
        self._process: ManagedProcess | None = None
        self._record_to: Path | None = None
        self._lock = FolderLock(self._home / "lock", "the Kafka")

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:PORT`, also after `stop`.

        Raises:
            SetupError: It was never started.
        """
        if self._port is None:
            raise SetupError(f"the Kafka of {self.directory} was never started")
        return f"{ports.LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the JVM.

        Raises:
            SetupError: It was never started.
        """
        return self.process.pid

    @property
    def process(self) -> ManagedProcess:
        """The JVM's process: signals, exit status, end of the log.

        Raises:
            SetupError: It was never started.
        """
        if self._process is None:
            raise SetupError(f"the Kafka of {self.directory} was never started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the JVM is alive."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Starts the broker and returns when it answers and coordinates groups. Also after a crash of it.

        Raises:
            SetupError: It runs already, the directory or the port is in use, Java or the jars are missing, or the
                broker ended or stayed silent; the message holds the end of its log.
        """
        if self.running:
            raise SetupError(f"the Kafka of {self.directory} runs already as process {self.pid}")
        self._lock.acquire()
        try:
            java, jars = find_java(), ensure_jars(self._progress)
            options = jvm_options(java, self._heap_mb)
            command = [str(java.executable), *options, *class_path(jars)]
            if self._record_to is None:
                record = partial(_record_start, heap_mb=self._heap_mb)
                command[1:1] = ensure_start_cache(java, jars, options, record, self._progress)
            self._prepare(command)
            if self._record_to is not None:
                command.insert(1, record_option(self._record_to))
            self._run(command)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Controlled shutdown (SIGTERM), SIGKILL after 15 s; frees the directory. May be called at any time."""
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            self._lock.release()

    def _prepare(self, java: list[str]) -> None:
        self._port = self._choose_port()
        (self._home / "port").write_text(f"{self._port}\n")
        controller_port = ports.find_free(f"controller of {self._home}", avoid=frozenset({self._port}))
        (self._home / "server.properties").write_text(server_properties(self._port, controller_port))
        shutil.rmtree(self._home / TEMP_DIR, ignore_errors=True)
        (self._home / TEMP_DIR).mkdir()
        # Written last by the format tool: a format that was interrupted is done again.
        if not (self._home / DATA_DIR / "meta.properties").exists():
            self._format(java)

    def _choose_port(self) -> int:
        if self._requested_port is not None:
            if not ports.is_free(self._requested_port):
                holder = ports.holder(self._requested_port)
                raise SetupError(
                    f"port {self._requested_port} is in use by {holder}; stop it or choose another port for Kafka"
                )
            return self._requested_port
        last = self._home / "port"
        if last.exists() and ports.is_free(port := int(last.read_text())):
            return port
        return ports.find_free(str(self._home))

    def _format(self, java: list[str]) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config=server.properties"]
        process = ManagedProcess(
            name="Kafka's format tool", command=[*java, *tool], log=self.directory / "log" / "kafka.log", cwd=self._home
        )
        with process:
            status = process.wait(_FORMAT_TIMEOUT_S)
        if status != 0:
            raise SetupError(f"Kafka's format tool ended with {status}, expected 0; it said:\n{process.log_tail()}")

    def _run(self, java: list[str]) -> None:
        self._process = ManagedProcess(
            name="Kafka",
            command=[*java, "kafka.Kafka", "server.properties"],
            log=self.directory / "log" / "kafka.log",
            cwd=self._home,
            stop_timeout_s=_STOP_TIMEOUT_S,
            pass_fds=[self._lock.descriptor],
        )
        self._process.start()
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                # Refused connections are expected until the broker listens: try often, say nothing.
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 50,
                "log_level": 0,
            }
        )
        self._process.wait_ready(lambda: _serves(admin), timeout_s=_START_TIMEOUT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _serves(admin: AdminClient) -> bool:
    """Whether a broker has registered, was unfenced by the controller, and coordinates groups.

    Asking for a group makes Kafka create and load `__consumer_offsets`: 0.2 s here, where the first consumer to join
    would back off for 3 s.
    """
    try:
        if not admin.list_topics(timeout=_CHECK_TIMEOUT_S).brokers:
            return False
        answers = admin.describe_consumer_groups([_PROBE_GROUP], request_timeout=_GROUP_CHECK_TIMEOUT_S)
        answers[_PROBE_GROUP].result()
    except KafkaException:
        return False
    return True


def _record_start(archive: Path, *, heap_mb: int) -> None:
    """Starts and stops a broker in a folder of its own; Java writes the archive at the end, 10 s of CPU.

    Raises:
        SetupError: The broker did not start, or ended without having written the archive.
    """
    with tempfile.TemporaryDirectory(prefix="k2-record-") as folder:
        broker = LocalKafka(Path(folder), heap_mb=heap_mb)
        broker._record_to = archive
        with broker:
            broker.process.stop(_RECORD_TIMEOUT_S)
        if not archive.exists():
            raise SetupError(f"Java wrote no archive of Kafka's start; it said:\n{broker.process.log_tail()}")
