"""`k2 level`: at which level a pipeline is, why and from which figures; and the override by a person, with a reason.

An override ends by itself. Every one that was ever made stays in the control topic, with who made it and why.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator, Mapping
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
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")


def level(  # noqa: PLR0913  # an option each
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    pipeline_file: Annotated[
        Path | None, typer.Option("--pipeline", help="A pipeline file, where K2_KAFKA_* say how to reach its Kafka.")
    ] = None,
    wanted: Annotated[int | None, typer.Option("--set", help="The level to hold, 0 to 4.", metavar="LEVEL")] = None,
    span: Annotated[str, typer.Option("--for", help="How long --set holds, such as 90s, 15m, 2h.")] = DEFAULT_SPAN,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who read it later.")] = "",
    *,
    clear: Annotated[bool, typer.Option("--clear", help="End the override that is in force.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the level, why, and from which figures; or override it for a while. Exit 4 when Kafka does not answer."""
    change = _change(wanted, span, reason, clear=clear)
    pipeline, settings = kafka_site(directory, pipeline_file)
    # After the cheap refusals: this takes a moment to import.
    from k2_core.control_topic import ControlReader, ControlWriter  # noqa: PLC0415

    writer = ControlWriter(settings, pipeline.control_name)
    if change is not None:
        writer.override(change)
    reader = ControlReader(settings, pipeline.control_name)
    try:
        view = reader.read_all()
    finally:
        reader.close()
    _show(view, datetime.now(UTC), json_output=json_output)


def _change(wanted: int | None, span: str, reason: str, *, clear: bool) -> Override | None:
    """Return what the options ask for, if they ask for anything.

    Raises:
        SpecError: They contradict each other, or say something impossible.
    """
    if wanted is None and not clear:
        return None
    if wanted is not None and clear:
        raise SpecError("--clear", "--set too", "one of them")
    if not reason.strip():
        raise SpecError("--reason", "none", "why the controller is overridden, for those who read it later")
    if wanted is not None and wanted not in list(Level):
        raise SpecError("--set", str(wanted), "a level from 0 to 4")
    from k2_core.control import Override  # noqa: PLC0415  # as above

    now = datetime.now(UTC)
    lasts = timedelta() if clear else parse_span(span)
    return Override(None if wanted is None else Level(wanted), reason.strip(), getpass.getuser(), now, now + lasts)


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


def _show(view: ControlView, now: datetime, *, json_output: bool) -> None:
    decision: Mapping[str, Any] | None = (view.memory or {}).get("decision")
    override = view.override(now)
    document = {
        "level": int(view.level(now)),
        "name": view.level(now).name,
        "override": None if override is None else _told(override),
        "command": None
        if view.command is None
        else {"level": int(view.command.level), "why": view.command.reason, "decided_at": view.command.decided_at},
        "decision": decision,
        "overrides": [_told(one) for one in view.overrides],
    }
    if json_output:
        output.print_json(document)
        return
    for line in _lines(view, now, decision):
        output.console().print(line)


def _told(override: Override) -> dict[str, Any]:
    wanted = None if override.level is None else int(override.level)
    times = {"made_at": override.made_at, "until": override.until}
    return {"level": wanted, "reason": override.reason, "by": override.by, **times}


def _lines(view: ControlView, now: datetime, decision: Mapping[str, Any] | None) -> Iterator[str]:
    in_force = view.level(now)
    yield f"level {int(in_force)} {in_force.name}"
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
        yield from _why(decision)


def _why(decision: Mapping[str, Any]) -> Iterator[str]:
    for part in ("level", "sinks"):
        found = decision[part]
        held = f", held by {', '.join(found['held_by'])}" if found["held_by"] else ""
        yield f"{part}: {found['applied']}, recommended {found['recommended']}, {found['why']}{held}"
    seen = ", ".join(f"{name} {output.shown(value)}" for name, value in sorted(decision["seen"].items()))
    yield f"from {seen or 'no figures'}"
    if stalled := decision.get("stalled"):  # a controller of before does not say
        yield f"stalled: {stalled['text']}"
    if decision["missing"]:
        yield f"not known, which holds what needs it: {', '.join(decision['missing'])}"
