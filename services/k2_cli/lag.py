"""`k2 lag`: how far each partition is behind, read from Kafka and from the table's state."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from k2_cli import output
from k2_cli.backlog import Backlog, backlogs, total
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_cli.kafka_site import kafka_site
from k2_core.types import Partition

EXAMPLE: Final = "Example:  k2 lag --dir .k2 --json"


def lag(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    *,
    every: Annotated[bool, typer.Option("--all", help="Partitions without a record too.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show unread and uncommitted records per partition. Exit 4 when Kafka does not answer."""
    found = measure(StateFolder(directory))
    unread, uncommitted = total([at.unread for at in found]), total([at.uncommitted for at in found])
    if json_output:
        rows = [asdict(at) | {"unread": at.unread, "uncommitted": at.uncommitted} for at in found]
        output.print_json({"unread": unread, "uncommitted": uncommitted, "partitions": rows})
        return
    columns = ("topic", "partition", "log start", "end", "read", "committed", "unread", "uncommitted")
    shown = [at for at in found if every or at.end > at.start]
    output.print_table(
        columns,
        ((at.topic, at.partition, at.start, at.end, at.read, at.next, at.unread, at.uncommitted) for at in shown),
    )
    partitions = f"{len(found)} partitions, {len(shown)} with records" if not every else f"{len(found)} partitions"
    output.console().print(f"{partitions}: unread {output.shown(unread)}, uncommitted {output.shown(uncommitted)}")


def measure(folder: StateFolder) -> list[Backlog]:
    """Return the backlog of every partition of a folder's pipeline.

    Raises:
        SetupError: No pipeline has ever run on the folder.
        KafkaUnavailableError: Kafka does not run or does not answer.
        CatalogUnavailableError: The catalog does not answer.
    """
    pipeline, settings = kafka_site(folder.root)
    # After the cheap refusals: these take a second to import.
    from k2_cli.lake import Lake  # noqa: PLC0415
    from k2_core.kafka import KafkaAdmin  # noqa: PLC0415
    from k2_core.tables import open_catalog  # noqa: PLC0415

    # The table first: a commit in between then makes a lag look longer, never shorter than it was.
    lake = Lake.open(open_catalog(settings), pipeline.spec.namespace)
    state = lake.state() if lake is not None else None
    admin = KafkaAdmin(settings)
    found: list[Backlog] = []
    for topic, (_, count) in sorted(admin.describe_topics(pipeline.trades_topics()).items()):
        numbers = [Partition(number) for number in range(count)]
        known = state.topics[topic].partitions if state is not None and topic in state.topics else {}
        read = admin.group_offsets(pipeline.sink_group, topic)
        starts, ends = admin.log_starts(topic, numbers), admin.stable_ends(topic, numbers)
        found += backlogs(topic, starts, ends, read, {at: one.next for at, one in known.items()})
    return found
