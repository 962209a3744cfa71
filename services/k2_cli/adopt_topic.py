"""`k2 adopt-topic`: records what a topic has lost for ever, so that the sink goes on behind the loss.

For a topic that was deleted and made again, or whose retention has removed records before they were read. The loss is
in the table's state from then on, and `k2 audit` shows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from k2_cli import output
from k2_cli.folder import DEFAULT_DIR
from k2_cli.recovery.options import Asked, DryRun, Json, PipelineFile, Reason, Yes
from k2_core.types import TopicName

EXAMPLE: Final = 'Example:  k2 adopt-topic market.crypto.trades.binance --reason "topic deleted by mistake"'


def adopt_topic(  # noqa: PLR0913  # an option each
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Topics whose loss is accepted.")],
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    pipeline: PipelineFile = None,
    reason: Reason = "not given",
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Record what a topic lost before it was read, and go on behind it. Nothing is written where nothing is lost."""
    from k2_cli.recovery.site import Site, carry_out  # noqa: PLC0415  # imports table formats, which take seconds
    from k2_cli.recovery.topic_loss import plan  # noqa: PLC0415

    asked = Asked(reason, dry_run, yes, json_output)
    site = Site.open(directory, pipeline)
    lake = site.lake()
    with site.kafka() as admin:
        made = plan(site, lake, admin, [TopicName(name) for name in topics], reason)
    if made is not None:
        carry_out(site, lake, made, asked)
    elif json_output:
        output.print_json({"command": "adopt-topic", "found": [], "does": [], "dry_run": dry_run, "snapshot_id": None})
    else:
        output.console().print("nothing is lost: nothing to do")
