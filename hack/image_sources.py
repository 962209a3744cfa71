"""Make the sources of an image ready to run: compiled, readable by all, with a name and a version.

Run by hack/Dockerfile inside the build, with nothing but the standard library:

    python3 image_sources.py FOLDER
"""

from __future__ import annotations

import compileall
import py_compile
import stat
import sys
import tomllib
from pathlib import Path

_HERE = Path(__file__).parent
_COMMAND = "#!/usr/bin/env python3\nfrom k2_cli.main import run\n\nrun()\n"


def metadata(project: dict[str, str]) -> str:
    """METADATA of the distribution (core metadata 2.1), as far as importlib.metadata is asked for it."""
    return f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"


def main(folder: str) -> None:
    """Prepare `services/`, `operator/` and `bin/` in a folder."""
    home = Path(folder)
    project = tomllib.loads((_HERE / "pyproject.toml").read_text())["project"]
    # Without the version, so that a COPY can name it.
    information = home / "services" / f"{project['name'].replace('-', '_')}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(metadata(project))
    command = home / "bin" / "k2"
    command.parent.mkdir()
    command.write_text(_COMMAND)
    command.chmod(0o755)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(home, quiet=1, invalidation_mode=mode):
        raise SystemExit("the sources could not be compiled")
    for path in home.rglob("*"):
        more = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
        executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(path.stat().st_mode | more | (stat.S_IXGRP | stat.S_IXOTH if executable else 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
