"""Which Java of this machine can run Trino.

Called for the image (`onenode.trino_image`) and by the tests' own Trino.
It installs none; for K2 itself an older one does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError

MINIMUM_JAVA: Final = 24
VECTOR_MODULE: Final = "jdk.incubator.vector"
"""Trino 476 does not start without it, and runtimes that were cut down to the usual modules lack it."""
_INSTALLED: Final = Path("/usr/lib/jvm")
_LIST_TIMEOUT_S: Final = 60.0


def find_java() -> Path:
    """Return a Java that can run Trino.

    Raises:
        SetupError: There is none among JAVA_HOME, PATH and /usr/lib/jvm.
    """
    seen = []
    for candidate in _candidates():
        listed = subprocess.run(
            [str(candidate), "-XX:-UsePerfData", "--list-modules"],
            capture_output=True,
            text=True,
            timeout=_LIST_TIMEOUT_S,
            check=False,
        ).stdout
        major = re.search(r"^java\.base@(\d+)", listed, re.MULTILINE)
        if major and int(major[1]) >= MINIMUM_JAVA and VECTOR_MODULE in listed:
            return candidate
        seen.append(f"{candidate} ({major[1] if major else 'no version'})")
    raise SetupError(
        f"found {', '.join(seen) or 'no Java'}, expected Java {MINIMUM_JAVA} or newer with {VECTOR_MODULE}: "
        "install a whole JDK and let JAVA_HOME name it"
    )


def _candidates() -> Iterator[Path]:
    """Return every Java of this machine once, the one that is asked for first."""
    named = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if os.environ.get("JAVA_HOME") else []
    on_path = [Path(found)] if (found := shutil.which("java")) else []
    installed = sorted(_INSTALLED.glob("*/bin/java"), reverse=True)
    for candidate in dict.fromkeys(path.resolve() for path in (*named, *on_path, *installed)):
        if candidate.is_file():
            yield candidate
