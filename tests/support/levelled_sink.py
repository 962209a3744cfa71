"""`python -m k2_sink`, but for its level of degradation, which is the number in the file that K2_TEST_LEVEL_FILE names.

Run as a script by `support.sink`, with `-P`: the folder has an `operator.py`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from k2_core.types import Level
from k2_sink import __main__ as process
from k2_sink.parts import Parts

FILE = Path(os.environ["K2_TEST_LEVEL_FILE"])


def told_level() -> Level:
    """Return the level that the file tells."""
    return Level(int(FILE.read_text()))


def told_parts(*given: Any, **named: Any) -> Parts:
    """Return what the process would work with, at the level that the file tells."""
    return replace(Parts(*given, **named), level=told_level)


if __name__ == "__main__":
    process.Parts = told_parts  # type: ignore[assignment,misc]
    sys.exit(process.main())
