"""`k2 rollback`: one commit that gives a table the rows and the state of an older snapshot.

The sink then reads the log again from where that snapshot stood.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from k2_cli.folder import DEFAULT_DIR
from k2_cli.recovery.options import Asked, DryRun, Json, PipelineFile, Reason, Yes

EXAMPLE: Final = 'Example:  k2 rollback --to 2026-11-21T10:00:00Z --reason "wrong trades from 10:02"'


def rollback(  # noqa: PLR0913  # an option each
    to: Annotated[str, typer.Option("--to", metavar="SNAPSHOT|TIME", help="A snapshot's id, or a time (UTC).")],
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    pipeline: PipelineFile = None,
    reason: Reason = "not given",
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Go back to an older snapshot, rows and state in one commit; the sink reads the log again from there."""
    from k2_cli.recovery.going_back import find, plan  # noqa: PLC0415  # imports table formats, which take seconds
    from k2_cli.recovery.site import Site, carry_out  # noqa: PLC0415

    site = Site.open(directory, pipeline)
    lake = site.lake()
    target = find(lake, to)
    carry_out(site, lake, plan(site, lake, target), Asked(reason, dry_run, yes, json_output))
