"""Install one layer of an image: the packages that images.toml names, as requirements.lock has them, hashes and all.

Run by hack/Dockerfile inside the build, with nothing but the standard library and pip:

    python3 image_packages.py LAYER FOLDER
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

_HERE = Path(__file__).parent
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==", re.IGNORECASE)
_PIP = (
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--no-cache-dir",
    "--no-compile",
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--root-user-action=ignore",
)


def pins(lock: str, names: Collection[str]) -> str:
    """Cut the pins of some packages out of a lock file.

    Args:
        lock: Text of requirements.lock.
        names: Normalized names of packages.

    Raises:
        ValueError: The lock lacks one.
    """
    kept: list[str] = []
    left = set(names)
    keep = False
    for line in lock.splitlines(keepends=True):
        if (pin := _PIN.match(line)) is not None:
            keep = pin[1] in names
            left.discard(pin[1])
        if keep:
            kept.append(line)
    if left:
        raise ValueError(f"requirements.lock lacks {', '.join(sorted(left))}, which images.toml names")
    return "".join(kept)


def main(layer: str, folder: str) -> None:
    """Fill a folder with the packages of a layer, compiled: the images' root cannot be written."""
    names = tomllib.loads((_HERE / "images.toml").read_text())[layer]
    Path(folder).mkdir(parents=True, exist_ok=True)
    if not names:
        return
    wanted = _HERE / f"{layer}.txt"
    wanted.write_text(pins((_HERE / "requirements.lock").read_text(), names))
    subprocess.run([sys.executable, *_PIP, f"--target={folder}", f"--requirement={wanted}"], check=True)
    # The sources never change in an image: their times, which a copy changes, need not be looked at.
    compiler = [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode=unchecked-hash", folder]
    subprocess.run(compiler, check=False)  # some packages ship templates that are no Python yet


if __name__ == "__main__":
    main(*sys.argv[1:])
