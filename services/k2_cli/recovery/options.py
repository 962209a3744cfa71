"""The options that `k2 adopt`, `k2 adopt-topic` and `k2 rollback` share. Imports nothing that takes time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from k2_cli.folder import DEFAULT_DIR

PipelineFile = Annotated[
    Path | None, typer.Option("--pipeline", help="A pipeline file, instead of the folder's; see docs/recovery.md.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who read the table's history.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object; needs --yes or --dry-run.")]


_COMMAND = re.compile(r"`(k2 (?:adopt|adopt-topic|rollback)\b[^`]*)`")


def with_directory(text: str, directory: Path) -> str:
    """Return a refusal with its commands for a folder: a service that refuses does not know of folders."""
    if directory == DEFAULT_DIR:
        return text
    return _COMMAND.sub(lambda found: f"`{found[1]} --dir {directory}`", text)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user wants beside the recovery itself; see the options."""

    reason: str
    dry_run: bool
    yes: bool
    json_output: bool
