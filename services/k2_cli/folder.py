"""The state folder of an embedded pipeline: what lies where in it, who runs on it, what kind of trades it holds.

Called by every command that takes `--dir`. It only knows names and small JSON files: Kafka's data, the catalog and the
warehouse belong to those who write them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from k2_cli.stack.lock import FolderLock
from k2_core.errors import SetupError

DEFAULT_DIR = Path(".k2")
SQLITE_TIMEOUT_S = 30
"""How long a writer waits for another one's lock; SQLite's default of 5 s is less than a slow disk's fsync storm."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process of a running pipeline.

    Args:
        name: Such as `sink-0`.
        pid: Process id.
        metrics_url: Base of its `/metrics` and `/health`, or None if it has none.
    """

    name: str
    pid: int
    metrics_url: str | None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a running `k2 up` tells other commands; written when it is up and whenever a process is started anew.

    Args:
        pid: Of `k2 up`.
        started_at: UTC, ISO 8601.
        kafka: Bootstrap servers.
        api_url: Base of the API.
        source: Where trades come from, for people.
        processes: Its children.
    """

    pid: int
    started_at: str
    kafka: str
    api_url: str
    source: str
    processes: tuple[RunningProcess, ...] = field(default_factory=tuple)


class StateFolder:
    """The names in one state folder.

    Args:
        root: The folder; made by `prepare`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.warehouse = self.root / "warehouse"
        self.catalog = self.root / "catalog.db"
        self.logs = self.root / "log"
        self.pipeline_file = self.root / "pipeline.yaml"
        self._run_file = self.root / "run.json"
        self._kind_file = self.root / "trades"
        self._lock = FolderLock(self.root / "lock", "`k2 up`")

    @property
    def catalog_uri(self) -> str:
        """SQLAlchemy's URI of the embedded catalog."""
        return f"sqlite:///{self.catalog}?timeout={SQLITE_TIMEOUT_S}"

    @property
    def warehouse_url(self) -> str:
        """The embedded warehouse as a URL."""
        return f"file://{self.warehouse}"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Everything that K2 makes in the folder, and nothing that somebody else put there."""
        wal = tuple(self.catalog.with_name(self.catalog.name + end) for end in ("", "-journal", "-wal", "-shm"))
        small = (self.pipeline_file, self._run_file, self._kind_file, self.root / "lock")
        return (self.root / "kafka", self.warehouse, self.logs, *wal, *small)

    def acquire(self) -> None:
        """Make the folder and become its one owner until `release`.

        Raises:
            SetupError: Another `k2 up` runs on it, or it cannot be written.
        """
        self._lock.acquire()
        for part in (self.warehouse, self.logs):
            part.mkdir(exist_ok=True)

    def release(self) -> None:
        """Give the folder up; may be called again."""
        self._run_file.unlink(missing_ok=True)
        self._lock.release()

    def in_use(self) -> bool:
        """Whether a `k2 up` owns the folder now."""
        if not (self.root / "lock").exists():
            return False
        probe = FolderLock(self.root / "lock", "`k2 up`")
        try:
            probe.acquire()
        except SetupError:
            return True
        probe.release()
        return False

    def write_run(self, info: RunInfo) -> None:
        """Tell other commands what runs; they never see half of it."""
        temporary = self._run_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(info)))
        temporary.replace(self._run_file)

    def running(self) -> RunInfo | None:
        """Return what runs on the folder, or None; what a killed `k2 up` left behind does not count."""
        if not self.in_use():
            return None
        try:
            document = json.loads(self._run_file.read_text())
        except FileNotFoundError:  # it is still starting
            return None
        processes = tuple(RunningProcess(**process) for process in document.pop("processes"))
        return RunInfo(**document, processes=processes)

    def trades_kind(self) -> str | None:
        """Return the kind of trades that the folder holds (`live`, `capture`, `synthetic`), or None."""
        return self._kind_file.read_text().strip() if self._kind_file.exists() else None

    def mark_trades(self, kind: str) -> None:
        """Remember the kind of trades that are about to come in."""
        self._kind_file.write_text(f"{kind}\n")

    def require_data(self) -> None:
        """Refuse a folder that no pipeline has ever run on.

        Raises:
            SetupError: There is no pipeline in it.
        """
        if not self.pipeline_file.exists():
            raise SetupError(f"{self.root}: found no pipeline's state, expected a folder that `k2 up --dir` has used")
