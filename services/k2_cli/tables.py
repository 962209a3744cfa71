"""`k2 tables`: rows, files, bytes, partitions and snapshots of a pipeline's tables, from metadata alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from k2_cli import output
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_cli.stack import disk

if TYPE_CHECKING:
    from k2_cli.lake import Lake

EXAMPLE: Final = "Example:  k2 tables --dir .k2"


def tables(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show each table's rows, files, bytes, partitions and snapshots."""
    from k2_cli.open_lake import open_lakes  # noqa: PLC0415  # imports table formats, which take seconds

    folder = StateFolder(directory)
    found = [describe(lake) for lake in open_lakes(folder)]
    used = disk.used_bytes(folder.root)
    if json_output:
        output.print_json({"tables": found, "disk_bytes": used})
        return
    columns = ("table", "rows", "files", "size", "bytes/row", "partitions", "snapshots", "head")
    output.print_table(columns, (_row(table) for table in found))
    output.console().print(f"{folder.root} takes {output.shown_bytes(used)} on disk, Kafka and logs included")


def describe(lake: Lake) -> dict[str, object]:
    """Return what the metadata of a table's head says."""
    files = lake.files()
    return {
        "name": ".".join(lake.table.name()),
        "rows": sum(file.record_count for file in files),
        "files": len(files),
        "bytes": sum(file.file_size_in_bytes for file in files),
        "partitions": len({repr(file.partition) for file in files}),
        "snapshots": len(lake.table.metadata.snapshots),
        "snapshot_id": lake.snapshot.snapshot_id if lake.snapshot is not None else None,
        "location": lake.table.location(),
    }


def _row(table: dict[str, object]) -> tuple[object, ...]:
    rows, size = int(str(table["rows"])), int(str(table["bytes"]))
    share = size / rows if rows else None
    head = str(table["snapshot_id"]) if table["snapshot_id"] is not None else None
    return (
        table["name"],
        rows,
        table["files"],
        output.shown_bytes(size),
        share,
        table["partitions"],
        table["snapshots"],
        head,
    )
