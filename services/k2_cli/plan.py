"""`k2 plan`: what a pipeline of a given rate needs and costs a month, from what K2 measured of itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel

from k2_cli import output
from k2_cli.planning import model
from k2_cli.planning.figures import MEASURED_ON, Assumed, Measured, read_prices

EXAMPLE: Final = "Example:  k2 plan --rate 1000000 --retention-days 30"


def plan(  # noqa: PLR0913  one for each of the command's options
    *,
    rate: Annotated[float, typer.Option(help="Records a second, the mean.", min=1e-3, max=1e9)],
    retention_days: Annotated[float, typer.Option(help="Days that the table is kept.", min=1e-2, max=36_500)],
    peak: Annotated[float, typer.Option(help="Times the mean to size for.", min=1, max=1_000)] = 3,
    log_hours: Annotated[float, typer.Option(help="Hours that Kafka keeps records.", min=0.1, max=87_600)] = 24,
    queries_per_second: Annotated[float, typer.Option(help="To the API.", min=0, max=1e6)] = 1,
    query_gb: Annotated[float, typer.Option(help="GB of the table that a query scans.", min=0, max=1e6)] = 0.1,
    regions: Annotated[int, typer.Option(help="In which the pipeline runs.", min=1, max=50)] = 1,
    prices: Annotated[Path | None, typer.Option(help="Unit prices in TOML; K2's own, dated, unless given.")] = None,
    recovery: Annotated[bool, typer.Option("--recovery", help="Keep a copy of the table in a further region.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Plan brokers, sinks, Trino workers, storage, requests and cost, with every assumption."""
    load = model.Load(
        rate, retention_days, peak, log_hours, queries_per_second, query_gb, regions=regions, recovery=recovery
    )
    measured, assumed, unit = Measured(), Assumed(), read_prices(prices)
    found = model.plan(load, measured, assumed, unit)
    if json_output:
        figures = {"measured": measured.model_dump(), "measured_on": MEASURED_ON, "assumed": assumed.model_dump()}
        output.print_json(_as_json(found) | figures | {"prices": unit.model_dump()})
        return
    rows = [(part.name, f"{part.count:,.0f}", part.size, f"{part.dollars:,.0f}") for part in found.parts]
    output.print_table(("part", "count", "each", "$ a month"), [*rows, ("total", "", "", f"{found.dollars:,.0f}")])
    said = output.console().print
    said(f"{found.dollars_per_million:.6f} $ a million records; {load.rate * model.MONTH_S / 1e6:,.0f} million a month")
    said(
        f"pipelines: {found.pipelines}, symbols split over them; query.mode: {found.mode}; partitions: at least "
        f"{found.partitions}; commit interval: {found.commit_interval_s:.0f} s"
    )
    for line in found.advice:
        said(f"advice: {line}")
    for title, figures_of in ((f"measured ({MEASURED_ON})", measured), ("assumed", assumed)):
        said(f"{title}:")
        for line in _listed(figures_of):
            said(f"  {line}")
    said(f"prices: {unit.as_of}, {unit.region}; 730 hours a month; to use your own: --prices FILE")


def _listed(figures: BaseModel) -> list[str]:
    fields = type(figures).model_fields
    return [f"{getattr(figures, name):,g} {field.description}" for name, field in fields.items()]


def _as_json(found: model.Plan) -> dict[str, Any]:
    totals = {"dollars_a_month": found.dollars, "dollars_per_million_records": found.dollars_per_million}
    return asdict(found) | totals
