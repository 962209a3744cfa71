"""`k2 level`: at which level a pipeline is, why and from which figures; and the override by a person, with a reason.

An override ends by itself. Every one that was ever made stays in the control topic, with who made it and why.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from k2_cli import output
from k2_cli.folder import DEFAULT_DIR
from k2_cli.kafka_site import kafka_site
from k2_core.errors import SpecError
from k2_core.types import Level

if TYPE_CHECKING:
    from k2_core.control import ControlView, Override

EXAMPLE: Final = 'Example:  k2 level --set 3 --for 30m --reason "store is being moved"'
DEFAULT_SPAN: Final = "15m"
LONGEST: Final = timedelta(days=7)
"""An override that is forgotten would hold a pipeline for as long as it lasts."""
REMEMBER_EVERY_S: Final = 10.0
"""As `k2_core.controller.loop` has it, whose import takes a moment."""
SILENT_AFTER: Final = timedelta(seconds=30)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")


def level(  # noqa: PLR0913  # an option each
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    pipeline_file: Annotated[
        Path | None, typer.Option("--pipeline", help="A pipeline file, where K2_KAFKA_* say how to reach its Kafka.")
    ] = None,
    wanted: Annotated[int | None, typer.Option("--set", help="The level to hold, 0 to 4.", metavar="LEVEL")] = None,
    span: Annotated[
        str | None,
        typer.Option("--for", help=f"How long --set holds, such as 90s, 15m, 2h; {DEFAULT_SPAN} if not given."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who read it later.")] = "",
    *,
    by: Annotated[str, typer.Option("--by", help="Who decides; this machine's user if not given.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="End the override that is in force.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the level, why, and from which figures; or override it for a while. Exit 4 when Kafka does not answer."""
    change = _change(wanted, span, reason, by, clear=clear)
    pipeline, settings = kafka_site(directory, pipeline_file)
    # After the cheap refusals: this takes a moment to import.
    from k2_core.control_topic import ControlReader, ControlWriter  # noqa: PLC0415

    if change is not None:
        ControlWriter(settings, pipeline.control_name).override(change)
    reader = ControlReader(settings, pipeline.control_name)
    try:
        reader.poll(0)
        # One that is missing is waited for in vain, and is not made by whoever only wants to see.
        missing = reader.missing and change is None
        found = _Found(reader.view if missing else reader.read_all(), reader.trouble, missing=missing)
    finally:
        reader.close()
    _show(found, datetime.now(UTC), decides=pipeline.spec.decides, json_output=json_output)


def _change(wanted: int | None, span: str | None, reason: str, by: str, *, clear: bool) -> Override | None:
    """Return what the options ask for, if they ask for anything.

    Raises:
        SpecError: They contradict each other, or say something impossible.
    """
    if wanted is None and not clear:
        if span is not None or reason.strip() or by.strip():
            raise SpecError("--for, --reason or --by", "one without --set or --clear", "--set LEVEL or --clear with it")
        return None
    if wanted is not None and clear:
        raise SpecError("--clear", "--set too", "one of them")
    if not reason.strip():
        raise SpecError("--reason", "none", "why the controller is overridden, for those who read it later")
    if wanted is not None and wanted not in list(Level):
        raise SpecError("--set", str(wanted), "a level from 0 to 4")
    from k2_core.control import Override  # noqa: PLC0415  # as above

    now = datetime.now(UTC)
    lasts = timedelta() if clear else parse_span(DEFAULT_SPAN if span is None else span)
    return Override(None if wanted is None else Level(wanted), reason.strip(), by.strip() or _user(), now, now + lasts)


def _user() -> str:
    """Return who runs this.

    Raises:
        SpecError: The system has no name for it, as of a pod with a user of its own.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # by version of Python
        raise SpecError("--by", f"none, and no name of user {os.getuid()} on this machine", "who decides") from error


def parse_span(text: str) -> timedelta:
    """Return the time that `90s`, `15m`, `2h` or `1d` say.

    Raises:
        SpecError: It says no time, none at all, or more than a week.
    """
    match = _SPAN.fullmatch(text.strip())
    span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not timedelta() < span <= LONGEST:
        raise SpecError("--for", repr(text), f"a time such as 90s, 15m or 2h, at most {LONGEST.days}d")
    return span


@dataclass(frozen=True, slots=True)
class _Found:
    """What the control topic says, what is wrong with it, and whether there is none."""

    view: ControlView
    trouble: str | None
    missing: bool


def _show(found: _Found, now: datetime, *, decides: bool, json_output: bool) -> None:
    view = found.view
    decision: Mapping[str, Any] | None = (view.memory or {}).get("decision")
    override = view.override(now)
    # Services keep the level that they were told last, which is written nowhere else.
    unknown = found.missing and decides
    document = {
        "level": None if unknown else int(view.level(now)),
        "name": None if unknown else view.level(now).name,
        "override": None if override is None else _told(override),
        "command": None
        if view.command is None
        else {"level": int(view.command.level), "why": view.command.reason, "decided_at": view.command.decided_at},
        "decision": decision,
        "overrides": [_told(one) for one in view.overrides],
        "trouble": found.trouble if decides or not found.missing else None,
    }
    if json_output:
        output.print_json(document)
        return
    for line in (f"level not known: {found.trouble}; {_KEPT}",) if unknown else _lines(found, now, decision):
        output.console().print(line)


_KEPT: Final = "services keep the level that they have, and a controller that runs makes the topic again within seconds"


def _told(override: Override) -> dict[str, Any]:
    wanted = None if override.level is None else int(override.level)
    times = {"made_at": override.made_at, "until": override.until}
    return {"level": wanted, "reason": override.reason, "by": override.by, **times}


def _lines(found: _Found, now: datetime, decision: Mapping[str, Any] | None) -> Iterator[str]:
    view = found.view
    in_force = view.level(now)
    yield f"level {int(in_force)} {in_force.name}"
    if found.trouble is not None and not found.missing:
        yield (
            f"{found.trouble}; services keep the level that they had. A controller that runs writes over its own; "
            "for one that a person wrote, make another override, or --clear with a reason"
        )
    if (override := view.override(now)) is not None:
        yield f"overridden by {override.by} until {override.until:%Y-%m-%d %H:%M:%S}Z: {override.reason}"
    if view.command is None:
        yield "no controller has decided anything yet (spec.degradation.mode and spec.scaling.mode)"
        return
    yield (
        f"the controller says {int(view.command.level)} since {view.command.decided_at:%Y-%m-%d %H:%M:%S}Z: "
        f"{view.command.reason}"
    )
    if decision is not None:
        yield from _silence(decision, now)
        yield from _why(decision)


def _silence(decision: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Say that what follows is old: nothing but its age tells a controller that is gone from one that is content."""
    if (at := decision.get("at")) is None:  # a controller of before does not say
        return
    silent = now - datetime.fromisoformat(at)
    if silent > SILENT_AFTER:
        yield (
            f"the controller has said nothing for {silent.total_seconds():,.0f} s, expected something every "
            f"{REMEMBER_EVERY_S:g} s: it does not run, or cannot write to Kafka; until it does, level and sinks stay "
            "as they are, and what follows is what it said last"
        )


def _why(decision: Mapping[str, Any]) -> Iterator[str]:
    for part in ("level", "sinks"):
        found = decision[part]
        held = f", held by {', '.join(found['held_by'])}" if found["held_by"] else ""
        applied, recommended = output.shown(found["applied"]), output.shown(found["recommended"])
        yield f"{part}: {applied}, recommended {recommended}, {found['why']}{held}"
    yield f"from {_figures(decision['seen']) or 'no figures'}"
    yield f"signals: {_figures({name: decision.get(name) for name in _SIGNALS})}"
    interval_s = decision["sinks"].get("commit_interval_s")
    yield f"reckoned: {_figures((decision['sinks'].get('terms') or {}) | {'commit_interval_s': interval_s})}"
    if (budget_s := decision.get("outage_budget_s")) is not None:
        risk = (
            ": less than a fifth of the retention, see why the sinks are behind"
            if decision["retention_at_risk"]
            else ""
        )
        yield f"the log removes what is owed to the table in {budget_s:,.0f} s at the earliest{risk}"
    if stalled := decision.get("stalled"):  # a controller of before does not say
        yield f"stalled: {stalled['text']}"
    if decision["missing"]:
        yield f"not known, which holds what needs it: {', '.join(decision['missing'])}"


_SIGNALS: Final = ("slope_per_s", "forecast_records", "draining")


def _figures(values: Mapping[str, Any]) -> str:
    """Return what is known of some figures, in order; small ones to the digit that decides."""
    known = ((name, value) for name, value in sorted(values.items()) if value is not None)
    return ", ".join(f"{name} {_figure(value)}" for name, value in known)


def _figure(value: object) -> str:
    small = isinstance(value, float) and 0 < abs(value) < _TO_THE_DIGIT
    return f"{value:.4g}" if small else output.shown(value)


_TO_THE_DIGIT: Final = 10.0
"""Ratios and short times are below: one digit behind the point would hide on which side of a threshold they are."""
