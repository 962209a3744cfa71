"""`k2 maintain`: has Trino put files together, let snapshots expire and remove litter, once, in mode distributed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2_cli import output
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_core.errors import SpecError
from k2_core.spec import Pipeline, load_pipeline

if TYPE_CHECKING:
    from k2_query.maintenance.upkeep import Outcome, Plan

EXAMPLE: Final = "Example:  k2 maintain -f manifests/pipeline-distributed.yaml --dry-run"
_LONGEST_KEEP_DAYS: Final = 3650


def maintain(
    file: Annotated[
        Path | None, typer.Option("-f", "--file", help="The pipeline file; without it the folder's.")
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    keep_days: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_LONGEST_KEEP_DAYS,
            help="Of snapshots, and, a day at least, of files without one; as a rule spec.maintenance says it.",
        ),
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Maintain a pipeline's tables through its Trino: fewer and larger files, no old snapshots, no litter."""
    folder = StateFolder(directory)
    pipeline = load_pipeline(file or folder.pipeline_file)
    require_trino(pipeline)
    from k2_cli.maintaining import opened  # noqa: PLC0415  # imports table formats, which take seconds

    with opened(pipeline, folder, os.environ, keep_days) as upkeep:
        plan = upkeep.plan()
        outcomes: list[Outcome] = []
        for at, outcome in enumerate(upkeep.preview(plan) if dry_run else upkeep.carry_out(plan), start=1):
            outcomes.append(outcome)
            output.say(f"{at} of {len(plan.tasks)}: {progress(outcome)}")
    _print(plan, outcomes, json_output=json_output)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def require_trino(pipeline: Pipeline) -> None:
    """Return if a pipeline's tables can be maintained.

    Raises:
        SpecError: There is no Trino to do it.
    """
    if pipeline.spec.query.mode != "distributed":
        expected = "distributed: it is Trino that maintains tables, and without one nothing does yet"
        raise SpecError("spec.query.mode", pipeline.spec.query.mode, expected)


def progress(outcome: Outcome) -> str:
    """Return one line about what was done, or would be."""
    task, before, after = outcome.task, outcome.before, outcome.after
    day = "" if task.day is None else f" {task.day}"
    found = f"{task.table} {task.action}{day}: {before.files:,} files, {output.shown_bytes(before.nbytes)}"
    if outcome.error is not None:
        return f"{found}; failed after {outcome.attempts} attempts: {outcome.error}"
    if after is None:
        return found
    left = f"{after.files:,} files, {output.shown_bytes(after.nbytes)}, {after.snapshots:,} snapshots"
    return f"{found}, {before.snapshots:,} snapshots -> {left} in {outcome.seconds:.1f} s"


def _print(plan: Plan, outcomes: list[Outcome], *, json_output: bool) -> None:
    if json_output:
        waiting = [{"table": table, "day": str(part.day), "files": part.files} for table, part in plan.waiting]
        statements = [outcome.as_json() | {"statement": outcome.task.text} for outcome in outcomes]
        output.print_json({"statements": statements, "waiting": waiting})
        return
    columns = ("table", "action", "day", "files", "left", "size", "left", "snapshots", "left", "seconds")
    output.print_table(columns, (_row(outcome) for outcome in outcomes))
    for table, part in plan.waiting:
        output.console().print(f"{table} {part.day} waits: enrichment has not looked at all of it (see `k2 quality`)")


def _row(outcome: Outcome) -> tuple[Any, ...]:
    task, before, after = outcome.task, outcome.before, outcome.after
    return (
        *(task.table, task.action.value, None if task.day is None else str(task.day)),
        *(before.files, None if after is None else after.files),
        *(output.shown_bytes(before.nbytes), None if after is None else output.shown_bytes(after.nbytes)),
        *(before.snapshots, None if after is None else after.snapshots),
        outcome.seconds if outcome.attempts else None,
    )
