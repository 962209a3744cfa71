"""`k2 validate`: everything that is wrong with a pipeline file, as the API server would judge it, without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from k2_cli import output
from k2_cli.exits import ExitCode
from k2_core.errors import SpecError
from k2_core.spec import inactive_settings, parse_pipeline, pipeline_faults
from k2_core.yaml_file import read_document

EXAMPLE: Final = "Example:  k2 validate -f manifests/pipeline.yaml"


def validate(
    file: Annotated[Path, typer.Option("-f", "--file", help="The pipeline file.")],
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> ExitCode:
    """Check a pipeline file: one line for each fault. Exit 2 if there is any."""
    faults, inactive = judged(file)
    if json_output:
        listed = [{"path": fault.path, "found": fault.found, "expected": fault.expected} for fault in faults]
        output.print_json({"file": str(file), "valid": not faults, "faults": listed, "inactive": inactive})
    else:
        lines = [str(fault) for fault in faults] or ["valid", *(f"{path} has no effect yet" for path in inactive)]
        for line in lines:
            output.console().print(f"{file}: {line}")
    return ExitCode.BAD_INPUT if faults else ExitCode.OK


def judged(file: Path) -> tuple[tuple[SpecError, ...], tuple[str, ...]]:
    """Return what is wrong with a file, and what it sets that has no effect yet."""
    try:
        document = read_document(file)
    except SpecError as error:
        return (error,), ()
    faults = pipeline_faults(document)
    return faults, () if faults else inactive_settings(parse_pipeline(document))
