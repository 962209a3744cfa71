"""The operator is small: it never loads the libraries that read and write tables."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pyarrow", "pyiceberg", "polars", "duckdb", "numpy", "kubernetes")


def test_the_operator_loads_no_tables() -> None:
    code = f"import sys, k2_operator.service; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
