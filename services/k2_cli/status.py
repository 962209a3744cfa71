"""`k2 status`: does a pipeline run on a folder, and is each of its processes well?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer

from k2_cli import output
from k2_cli.exits import ExitCode
from k2_cli.folder import DEFAULT_DIR, RunInfo, RunningProcess, StateFolder
from k2_cli.scrape import Scraper

EXAMPLE: Final = "Example:  k2 status --dir .k2"


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process; `problem` is None when it says that it is well."""

    name: str
    pid: int
    problem: str | None


def status(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what runs on a folder and how it is. Exit 1 when nothing runs or a process is not well."""
    folder = StateFolder(directory)
    running = folder.running()
    found = [] if running is None else look(running)
    well = running is not None and not any(process.problem for process in found)
    if json_output:
        output.print_json(_document(folder, running, found, well=well))
    elif running is None:
        output.console().print(_nothing(folder))
    else:
        output.print_table(("process", "pid", "is"), ((one.name, str(one.pid), one.problem or "well") for one in found))
        output.console().print(f"API {running.api_url}, Kafka {running.kafka}, up since {running.started_at}")
        output.console().print(f"source {running.source}")
    raise typer.Exit(ExitCode.OK if well else ExitCode.NOT_WELL)


def _nothing(folder: StateFolder) -> str:
    return f"{folder.root}: " + ("`k2 up` is starting or stopping" if folder.in_use() else "nothing runs")


def look(running: RunInfo) -> list[ProcessStatus]:
    """Ask every process how it is."""
    scraper = Scraper()
    try:
        return [ProcessStatus(one.name, one.pid, _problem(one, scraper)) for one in running.processes]
    finally:
        scraper.close()


def _problem(process: RunningProcess, scraper: Scraper) -> str | None:
    if not psutil.pid_exists(process.pid):
        return "not running"
    return scraper.healthy(process.metrics_url) if process.metrics_url is not None else None


def _document(
    folder: StateFolder, running: RunInfo | None, found: list[ProcessStatus], *, well: bool
) -> dict[str, object]:
    processes = [{"name": one.name, "pid": one.pid, "problem": one.problem} for one in found]
    document: dict[str, object] = {"running": running is not None, "well": well, "dir": str(folder.root)}
    if running is not None:
        document |= {"api": running.api_url, "kafka": running.kafka, "since": running.started_at}
        document |= {"source": running.source, "processes": processes}
    return document
