"""hack/run to its first committed row: warm in this checkout, and cold in a copy with an empty home and no caches.

Both use synthetic trades, so that the exchange's answer time is no part of it. Cold is what a new user waits for: the
packages, Kafka's jars and the first start of everything, from the registries that this machine reaches.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from figures import Figure, at_most
from workload import Progress

from k2_core.config import ServiceSettings
from k2_core.errors import K2Error, SetupError
from k2_core.records import TRADES
from k2_core.tables import load_table, open_catalog

ROOT = Path(__file__).resolve().parents[2]
CACHE_VARIABLES = ("XDG_CACHE_HOME", "UV_CACHE_DIR", "PIP_CACHE_DIR", "K2_CACHE_DIR", "VIRTUAL_ENV")
PATIENCE_S = 300.0
WARM_RUNS = 3


def run(progress: Progress) -> list[Figure]:
    """Start a few times warm, then once cold."""
    warm = []
    for _ in range(WARM_RUNS):
        warm.append(_first_row(ROOT, dict(os.environ)))
        progress(f"warm: {warm[-1]:.1f} s")
    cold = _cold()
    progress(f"cold: {cold:.1f} s")
    return [
        at_most("start", f"first committed row, warm, slowest of {WARM_RUNS}", max(warm), "s", 20),
        at_most("start", "first committed row, cold", cold, "s", 180),
    ]


def _cold() -> float:
    with tempfile.TemporaryDirectory(prefix="k2-cold-") as name:
        copy, home = Path(name) / "k2", Path(name) / "home"
        home.mkdir()
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
        for file in filter(None, listed.stdout.split("\0")):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, copy / file)
        environment = {name: value for name, value in os.environ.items() if name not in CACHE_VARIABLES}
        venv = str(ROOT / ".venv")
        environment["PATH"] = ":".join(part for part in environment["PATH"].split(":") if not part.startswith(venv))
        return _first_row(copy, environment | {"HOME": str(home)})


def _first_row(checkout: Path, environment: Mapping[str, str]) -> float:
    """Return seconds from the start of hack/run to a snapshot with rows."""
    with tempfile.TemporaryDirectory(prefix="k2-start-") as name:
        log = Path(name) / "run.log"
        command = [str(checkout / "hack/run"), "--synthetic", "--dir", f"{name}/state"]
        started = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output)
        try:
            while not _has_rows(Path(name) / "state"):
                if process.poll() is not None or time.monotonic() - started > PATIENCE_S:
                    raise SetupError(f"hack/run: found no committed row; its last words: {log.read_text()[-500:]}")
                time.sleep(0.1)
            return time.monotonic() - started
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)


def _has_rows(state: Path) -> bool:
    if not (state / "catalog.db").exists():
        return False
    settings = ServiceSettings.model_validate(
        {"catalog_uri": f"sqlite:///{state}/catalog.db?timeout=30", "warehouse": f"file://{state}/warehouse"}
    )
    try:
        table = load_table(open_catalog(settings), "market", TRADES)
    except K2Error:
        return False
    snapshot = table.current_snapshot() if table else None
    return snapshot is not None and snapshot.summary is not None and int(snapshot.summary["total-records"] or 0) > 0
