"""The definitions of prometheus-operator's custom resources, as its Go module ships them, for a real API server.

Fetched once by Go's own module client, which verifies them against its checksum database, and kept in its cache.
"""

from __future__ import annotations

import json
import os
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
    missing = "needs Go, to fetch " + MODULE
    if go is not None:
        done = subprocess.run(
            [go, "mod", "download", "-json", MODULE],
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
            check=False,
            cwd="/",
        )
        if done.returncode == 0:
            folder = Path(json.loads(done.stdout)["Dir"]) / "example/prometheus-operator-crd"
            return tuple(folder / f"monitoring.coreos.com_{kind}.yaml" for kind in KINDS)
        missing = f"needs {MODULE}: {done.stdout}{done.stderr}"
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
