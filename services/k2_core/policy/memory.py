"""The policy's state as a plain dictionary and back, for a controller that restarts.

Numbers, strings, lists and null only: what JSON and a resource's status can hold. Versioned; what cannot be read is
refused by name, so that a controller never goes on from half a memory. Used by the controller. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

from k2_core.errors import StateError
from k2_core.policy.decision import PolicyState
from k2_core.policy.degradation import LevelState
from k2_core.policy.scaling_state import Change, ScalingState
from k2_core.policy.signals import SignalState
from k2_core.types import Level

FORMAT: Final = 2
_ADDED: Final[Mapping[str, Any]] = {"at_least_per_s": None, "onset_per_s": None, "owed_records": 0}
"""What `scaling` has since format 2, as it is for a state of format 1."""

_State = TypeVar("_State", SignalState, LevelState, ScalingState, Change)
_NEVER: Final = -math.inf
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {"float": (float, int), "int": (int,), "bool": (bool,)}
"""What JSON may hold for a declared type; `type` and not `isinstance`, as a boolean is no number."""


def to_dict(state: PolicyState) -> dict[str, Any]:
    """Return the state's stored form; `from_dict` gives back an equal state."""
    scaling = _plain(state.scaling)
    scaling["change"] = None if state.scaling.change is None else _plain(state.scaling.change)
    scaling["throughputs"] = list(state.scaling.throughputs)
    scaling["window"] = [list(part) for part in state.scaling.window]
    return {"format": FORMAT, "signals": _plain(state.signals), "level": _plain(state.level), "scaling": scaling}


def from_dict(stored: Mapping[str, Any]) -> PolicyState:
    """Read what `to_dict` wrote, in this format or the one before.

    Raises:
        StateError: It has another format, lacks a part, or holds something else in its place.
    """
    found = stored.get("format")
    if found not in (1, FORMAT):
        raise StateError(f"policy state: found format {found!r}, expected {FORMAT} or 1; remove it to start afresh")
    if found == 1 and isinstance(stored.get("scaling"), Mapping):
        stored = {**stored, "scaling": {**_ADDED, **stored["scaling"]}}
    level = _values(stored, "level", LevelState)
    scaling = _values(stored, "scaling", ScalingState)
    try:
        level["level"] = Level(level["level"])
        if scaling["change"] is not None:
            change = _values(scaling, "change", Change)
            change["level"] = Level(change["level"])
            scaling["change"] = Change(**change)
        scaling["throughputs"] = tuple(scaling["throughputs"])
        scaling["window"] = tuple((int(part), int(value)) for part, value in scaling["window"])
        if scaling["unsteady_at_s"] is None:
            scaling["unsteady_at_s"] = _NEVER
    except (TypeError, ValueError) as error:
        raise StateError(f"policy state: {error}, expected what was written; remove it to start afresh") from error
    if len(scaling["throughputs"]) != len(Level):
        count = len(scaling["throughputs"])
        raise StateError(f"policy state: scaling.throughputs: found {count} figures, expected {len(Level)}")
    signals = _values(stored, "signals", SignalState)
    return PolicyState(SignalState(**signals), LevelState(**level), ScalingState(**scaling))


def _plain(state: SignalState | LevelState | ScalingState | Change) -> dict[str, Any]:
    """Return the fields by name; JSON has no infinity, so that "never" is null."""
    values = {item.name: getattr(state, item.name) for item in fields(state)}
    return {
        name: None if value == _NEVER else value.value if isinstance(value, Level) else value
        for name, value in values.items()
    }


def _values(stored: Mapping[str, Any], part: str, kind: type[_State]) -> dict[str, Any]:
    found = stored.get(part)
    expected = {item.name for item in fields(kind)}
    if not isinstance(found, Mapping) or set(found) != expected:
        shown = sorted(found) if isinstance(found, Mapping) else repr(found)
        raise StateError(f"policy state: {part}: found {shown}, expected {sorted(expected)}; remove it to start afresh")
    for item in fields(kind):
        declared, _, optional = str(item.type).partition(" | ")
        value = found[item.name]
        # A time that has never come is stored as null, see `_plain`.
        may_be_null = optional == "None" or item.name == "unsteady_at_s"
        if declared in _KINDS and not (value is None and may_be_null) and type(value) not in _KINDS[declared]:
            raise StateError(
                f"policy state: {part}.{item.name}: found {value!r}, expected {item.type}; remove it to start afresh"
            )
    return dict(found)
