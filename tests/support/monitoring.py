"""The definitions of prometheus-operator's custom resources, as its Go module ships them, for a real API server.

Fetched once by Go's own module client, which verifies them against its checksum database, and kept in its cache.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest

MODULE: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KINDS: Final = ("servicemonitors", "podmonitors", "prometheusrules")
_FETCH_TIMEOUT_S: Final = 300


@cache
def definitions() -> tuple[Path, ...]:
    """Return one file a kind; a machine that cannot is a failure under CI, else a skip that says what is missing."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs Go, to fetch " + MODULE)
    done = subprocess.run(
        [go, "mod", "download", "-json", MODULE],
        capture_output=True,
        text=True,
        timeout=_FETCH_TIMEOUT_S,
        check=False,
        cwd="/",
    )
    if done.returncode != 0:
        pytest.skip(f"needs {MODULE}: {done.stdout}{done.stderr}")
    folder = Path(json.loads(done.stdout)["Dir"]) / "example/prometheus-operator-crd"
    return tuple(folder / f"monitoring.coreos.com_{kind}.yaml" for kind in KINDS)
