"""`k2 quality`: what enrichment found in the committed trades, by symbol, and how far it has looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2_cli import output
from k2_cli.folder import DEFAULT_DIR, StateFolder

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLE: Final = "Example:  k2 quality --dir .k2 --symbol BTCUSDT"
_KEYS: Final = ("symbol", "exchange", "market", "finding")


def quality(
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    symbol: Annotated[str | None, typer.Option(help="Only of this symbol, as the exchange writes it.")] = None,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what stands out in the committed trades: wrong clocks, prints off market, tick or lot, unlisted symbols."""
    from k2_cli.findings import read_findings  # noqa: PLC0415  # imports table formats, which take seconds

    read = read_findings(StateFolder(directory), symbol)
    found = summed(read.rows)
    if json_output:
        checked = {"checked_sequence_number": read.checked, "committed_sequence_number": read.committed}
        output.print_json({"findings": [_as_json(row) for row in found], **checked})
        return
    columns = ("symbol", "exchange", "market", "finding", "trades", "first", "last", "delay", "example")
    output.print_table(columns, ((*(row[name] for name in columns[:7]), _delay(row), row["example"]) for row in found))
    behind = "" if read.checked == read.committed else "; what came since is looked at within a minute at level 0"
    output.console().print(f"looked at {read.checked} of {read.committed} commits{behind}")


def summed(rows: pa.Table) -> list[dict[str, Any]]:
    """Return findings with one row for each symbol and finding, in that order."""
    sums = (("trades", "sum"), ("first_event_time", "min"), ("last_event_time", "max"), ("example", "min"))
    delays = (("least_delay_us", "min"), ("greatest_delay_us", "max"))
    groups = rows.group_by(list(_KEYS)).aggregate([*sums, *delays])
    names = {"trades_sum": "trades", "first_event_time_min": "first", "last_event_time_max": "last"}
    names |= {"example_min": "example", "least_delay_us_min": "least_delay_us"}
    names |= {"greatest_delay_us_max": "greatest_delay_us"}
    found = groups.rename_columns([names.get(name, name) for name in groups.column_names])
    return list(found.sort_by([(name, "ascending") for name in _KEYS]).to_pylist())


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: row[name].isoformat().replace("+00:00", "Z") for name in ("first", "last")}


def _delay(row: dict[str, Any]) -> str | None:
    """From the exchange to K2, in seconds; below 0 a clock is wrong."""
    if row["least_delay_us"] is None:
        return None
    return f"{row['least_delay_us'] / 1e6:.6f} to {row['greatest_delay_us'] / 1e6:.6f} s"
