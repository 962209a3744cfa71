"""Debian packages: what is missing is installed, and nothing that it brings is started.

Called by `onenode.tools`. It needs root and says in one line which package is missing where it has none. It never
upgrades or removes a package, and never starts a service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from k2_core.errors import SetupError

POLICY: Final = Path("/usr/sbin/policy-rc.d")
"""Asked by invoke-rc.d before a service is started; 101 means no (README.policy-rc.d of init-system-helpers)."""
_NO_START: Final = "#!/bin/sh\nexit 101\n"
_APT: Final = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")
_INSTALL_TIMEOUT_S: Final = 900.0


def locate(program: str) -> Path | None:
    """Return where a program lies, or None.

    Args:
        program: A name to be found on PATH or in the folders for administrators, or an absolute path with `*`.
    """
    if program.startswith("/"):
        found = sorted(Path("/").glob(program.removeprefix("/")))
        return found[-1] if found else None
    place = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    return Path(place) if place else None


def install(packages: Sequence[str], say: Callable[[str], None]) -> None:
    """Install packages without starting what they bring.

    Raises:
        SetupError: There is no root, no apt-get, or it failed.
    """
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"found no {names}; install Debian's package{'s' * (len(packages) > 1)} of that name as root")
    say(f"installing {names} with apt-get")
    with _services_stay_down():
        if not _apt("install", "--yes", "--no-install-recommends", *packages):
            _apt("update")  # a new machine knows no package, an old one may know versions that are gone
            if not (done := _apt("install", "--yes", "--no-install-recommends", *packages)):
                raise SetupError(f"apt-get could not install {names}; it said:\n{done.tail}")


class _Done:
    """How one apt-get ended; true if well."""

    def __init__(self, status: int, output: str) -> None:
        self._status = status
        self.tail = "\n".join(output.splitlines()[-8:])

    def __bool__(self) -> bool:
        return self._status == 0


def _apt(*arguments: str) -> _Done:
    done = subprocess.run(
        [*_APT, *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_INSTALL_TIMEOUT_S,
        check=False,
    )
    return _Done(done.returncode, done.stdout)


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Have the packages' own services not started; a policy that the machine has already is left to it."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text(_NO_START)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
