"""`k2 adopt`: accepts a table as it is, where its commit state is missing, is not its head's, or is another pipeline's.

What it writes is `k2_cli.recovery.adoption`'s to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from k2_cli.folder import DEFAULT_DIR
from k2_cli.recovery.options import Asked, DryRun, Json, PipelineFile, Reason, Yes

EXAMPLE: Final = 'Example:  k2 adopt --dir .k2 --dry-run, then k2 adopt --dir .k2 --reason "rolled back with Trino"'


def adopt(  # noqa: PLR0913  # an option each
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    pipeline: PipelineFile = None,
    reason: Reason = "not given",
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Accept a table as it is: rebuild its commit state from what is left of it, and take it over."""
    from k2_cli.recovery.adoption import plan  # noqa: PLC0415  # imports table formats, which take seconds
    from k2_cli.recovery.site import Site, carry_out  # noqa: PLC0415

    site = Site.open(directory, pipeline)
    lake = site.lake()
    carry_out(site, lake, plan(site, lake), Asked(reason, dry_run, yes, json_output))
