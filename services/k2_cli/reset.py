"""`k2 reset`: removes what a pipeline made in its state folder, and nothing else that lies there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from k2_cli import output
from k2_cli.exits import ExitCode
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_cli.stack import disk
from k2_core.errors import SetupError, SpecError

EXAMPLE: Final = "Example:  k2 reset --dir .k2 --yes"


def reset(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object; needs --yes.")] = False,
) -> None:
    """Remove a pipeline's data: Kafka's log, catalog, warehouse, logs. Refused while something runs on it."""
    folder = StateFolder(directory)
    found = removable(folder)
    if found and not yes:
        _confirm(folder, found)
    freed = {str(path): disk.used_bytes(path) for path in found}
    remove(folder, found)
    if json_output:
        output.print_json({"removed": freed, "bytes": sum(freed.values())})
    elif found:
        output.console().print(f"removed {output.shown_bytes(sum(freed.values()))}")
    else:
        output.console().print(f"{folder.root}: nothing to remove")


def removable(folder: StateFolder) -> list[Path]:
    """Return what there is to remove.

    Raises:
        SetupError: Something runs on the folder.
    """
    running = folder.running()
    if running is not None or folder.in_use():
        owner = f"process {running.pid}" if running is not None else "a process"
        raise SetupError(f"{folder.root} is in use by `k2 up` of {owner}, expected nothing to run on it: stop it first")
    return [path for path in folder.parts if path.exists()]


def _confirm(folder: StateFolder, found: list[Path]) -> None:
    for path in found:
        output.console().print(f"{output.shown_bytes(disk.used_bytes(path)):>10}  {path}")
    if not sys.stdin.isatty():
        raise SpecError("--yes", "nothing, and no terminal to ask on", "--yes, as removal cannot be undone")
    if not typer.confirm(f"Remove all of this below {folder.root}?", default=False):
        raise typer.Exit(ExitCode.NOT_WELL)


def remove(folder: StateFolder, paths: list[Path]) -> None:
    """Remove these, and the folder itself if nothing else is in it."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if folder.root.exists() and not any(folder.root.iterdir()):
        folder.root.rmdir()
