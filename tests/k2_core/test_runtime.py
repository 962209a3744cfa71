"""Process-wide settings, tried in a process of their own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import pyarrow as pa
from k2_core.runtime import YOUNG_OBJECTS, tune_for_batches
tune_for_batches()
assert gc.isenabled()
assert gc.get_threshold()[0] == YOUNG_OBJECTS
assert gc.get_freeze_count() > 1000
assert pa.default_memory_pool().backend_name == "system"
"""


def test_cycles_are_looked_for_seldom_and_large_blocks_come_from_the_c_library() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
